"""The base of every backend over HTTP: servers, headers, and the opening of calls.

A backend defines pure functions that make the call for a request (`HTTPCore.answer_call`) and for counting
tokens (`HTTPCore.tokenize_call`); `HTTPBackend` and `AsyncHTTPBackend` send them.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .. import validators
from ..core.base import AsyncBaseLLM, BaseLLM
from ..core.llm import LLMCore
from ..core.repeat import repeat, repeat_async
from ..core.request import Request
from ..errors import InvalidArgument
from ..locks import locked_cached_property
from ..retry import with_max_retries
from .endpoints import Endpoints, check_url, public_url, split_api
from .limits import Limits
from .proxy import passwords
from .secrets import Secrets, hide_credentials
from .session_argument import check_proxies, check_session

if TYPE_CHECKING:
    import aiohttp
    import requests
    from typing_extensions import Unpack

    from ..params import BackendKwargs, Timeout
    from ..schema import Piece
    from ..templates import TemplateSpec
    from .async_client import AsyncHTTPSource, AsyncHTTPTransport
    from .exchange import Call
    from .sync_client import HTTPSource, HTTPTransport

__all__ = ["AsyncHTTPBackend", "HTTPBackend", "HTTPCore"]


class HTTPCore(LLMCore):
    """A model behind HTTP.

    Args:
        url: Base URL of the server (a missing scheme is http; it may end with /v1 or one of its routes), or a
            list of the URLs of equal servers: requests are balanced over them, and one that cannot be
            reached is avoided for 10 s.
        model_name: The server's name of the model; None asks the server.
        api_key: Sent as a bearer token. `key`, lagent's word, is the same.
        headers: Sent with every request.
        max_retries: Short for ``retry=RetryPolicy(max_retries=…)``; see `RetryPolicy`.
        verify: False trusts any certificate; a path names a CA bundle or a directory of certificates.
        session: Sends the requests: a `requests.Session`, for an asynchronous backend an
            `aiohttp.ClientSession`. Its authentication, headers, cookies, proxies, certificates, adapters and
            hooks apply; `api_key` and `headers` take precedence, and `verify` unless it is True. It is never
            closed here. None uses our own connections, which take proxies, CA bundles and netrc from
            the environment, as requests does; then test doubles (``responses``, ``requests-mock``,
            ``aioresponses``) have no effect.
        proxies: URLs of HTTP proxies by scheme, as requests takes them (``{'https': 'http://proxy:3128'}``);
            they take precedence over those of the environment. A `session` has its own.
        limits: The most that a server may send: `lagent_llms.http.limits.Limits`, or a dict with some of its
            fields (``{'response_bytes': 1 << 20}``); None takes its defaults (256 MiB of a response).
        meta_template: See `LLMCore`.
        session_len: See `LLMCore`.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.
    """

    #: The type of `session` that is allowed.
    session_type: ClassVar[str] = "requests.Session"
    opt_in_parameters = frozenset({"extra_body"})
    neutral_arguments = LLMCore.neutral_arguments | {
        "url", "model_name", "api_key", "headers", "key", "max_retries", "verify", "session", "limits",
        "proxies",
    }  # fmt: skip

    def __init__(
        self,
        url: str | Sequence[str],
        model_name: str | None = None,
        *,
        api_key: str | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_retries: int | None = None,
        verify: bool | str | os.PathLike[str] = True,
        session: requests.Session | aiohttp.ClientSession | None = None,
        proxies: Mapping[str, str] | None = None,
        limits: Limits | Mapping[str, int] | None = None,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        super().__init__(
            meta_template=meta_template,
            session_len=session_len,
            max_concurrency=max_concurrency,
            **with_max_retries(kwargs, max_retries),
        )
        model_name = validators.optional_name("model_name", model_name)
        check_session(session, self.session_type)
        proxies = check_proxies(proxies, session)
        if api_key is not None and key is not None:
            raise InvalidArgument("api_key and key are the same; only one can be given", argument="key")
        urls = [url] if isinstance(url, str) else validators.listed(url)
        if not urls:
            raise InvalidArgument(
                f"url={hide_credentials(url)}: allowed is a URL or a list of URLs", argument="url"
            )
        self.model_name = model_name
        self.endpoints = Endpoints([self.base_url(check_url("url", one)) for one in urls])
        self._transport_options: dict[str, Any] = {
            "headers": headers,
            "api_key": validators.api_key(*(("api_key", api_key) if key is None else ("key", key))),
            "verify": verify,
            "limits": Limits.of(limits),
            **({} if session is None else {"session": session}),
            **({"proxies": proxies} if proxies else {}),
        }

    def __repr__(self) -> str:
        urls = [public_url(url) for url in self.endpoints.urls]
        named = f", model_name={self.model_name!r}" if self.model_name else ""
        return f"{type(self).__name__}({urls[0] if len(urls) == 1 else urls!r}{named})"

    def secrets(self) -> tuple[str, ...]:
        """See `KeepsCalls.secrets`."""
        options = self._transport_options
        logins = [word for url in options.get("proxies", {}).values() for word in passwords(url)]
        return Secrets.of(options["api_key"], *Secrets.in_headers(options["headers"]), *logins).values

    def base_url(self, url: str) -> str:
        """The URL before the paths of the requests, of one that may end with /v1 or a route."""
        base, api = split_api(url)
        return base if api == "/v1" else url

    def import_protocol(self) -> None:
        """Import the modules that the calls below need, for the first call; a fork waits for it."""

    @abstractmethod
    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """Make the call that sends `request` to `model`."""

    @abstractmethod
    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """Make the call for the token ids of `text` as a prompt."""

    @abstractmethod
    def models_call(self) -> Call[list[str]]:
        """Make the call for the names of the server's models."""

    @property
    def server_count(self) -> int:
        """See `LLMCore.server_count`."""
        return len(self.endpoints.urls)

    def _call(self, request: Request, model: str) -> Call[Piece]:
        """`answer_call`, with `extra_body`, for the server that a batch has chosen."""
        call = self.answer_call(request, model)
        if request.options.extra_body:
            call = replace(call, request=call.request.with_fields(request.options.extra_body))
        return call if request.server is None else replace(call, server=request.server)

    def _set_model_name(self, models: Sequence[str]) -> str:
        """Store and return the server's first model as `model_name`."""
        if not models:
            raise InvalidArgument(f"{self!r}: the server serves no model", argument="model_name")
        self.model_name = models[0]
        return models[0]


class HTTPBackend(HTTPCore, BaseLLM):
    """A model behind HTTP, called synchronously."""

    @locked_cached_property
    def transport(self) -> HTTPTransport:
        """The transport, made on first use."""
        from .sync_client import HTTPTransport

        self.import_protocol()
        return HTTPTransport(self.endpoints, max_connections=self.most_in_flight, **self._transport_options)

    def models(self) -> list[str]:
        """Return the names of the models (and adapters) that the server offers."""
        self.check_open()
        return repeat(self.attempts(), lambda: self.transport.fetch(self.models_call(), self.options.timeout))

    def _model(self, timeout: Timeout) -> str:
        """Return the name of the model; ask the server within `timeout` if it is not known."""
        if self.model_name is not None:
            return self.model_name
        models = self.transport.fetch(self.models_call(), timeout)
        return self._set_model_name(models)

    def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`."""
        return self._model(timeout)

    def _open(self, request: Request) -> HTTPSource[Piece]:
        timeout = request.options.timeout
        return self.transport.open(self._call(request, self._model(timeout)), timeout)

    def _prompt_tokens(self, request: Request) -> int | None:
        prompt = self.to_count(request)
        return None if prompt is None else len(self._ids(prompt, request.options.timeout))

    def _tokenize(self, text: str) -> list[int]:
        return self._ids(text, self.options.timeout)

    def _ids(self, text: str, timeout: Timeout) -> list[int]:
        return self.transport.fetch(self.tokenize_call(text, self._model(timeout)), timeout)

    def _free(self) -> None:
        """Close idle connections."""
        if "transport" in vars(self):
            self.transport.close()


class AsyncHTTPBackend(HTTPCore, AsyncBaseLLM):
    """A model behind HTTP, called with await."""

    session_type = "aiohttp.ClientSession"

    @locked_cached_property
    def transport(self) -> AsyncHTTPTransport:
        """The transport, made on first use."""
        from .async_client import AsyncHTTPTransport

        self.import_protocol()
        return AsyncHTTPTransport(self.endpoints, **self._transport_options)

    async def models(self) -> list[str]:
        """Return the names of the models (and adapters) that the server offers."""
        self.check_open()
        return await repeat_async(
            self.attempts(), lambda: self.transport.fetch(self.models_call(), self.options.timeout)
        )

    async def _model(self, timeout: Timeout) -> str:
        if self.model_name is not None:
            return self.model_name
        models = await self.transport.fetch(self.models_call(), timeout)
        return self._set_model_name(models)

    def served_model(self, timeout: Timeout) -> Awaitable[str]:
        """See `KeepsCalls.served_model`."""
        return self._model(timeout)

    async def _open(self, request: Request) -> AsyncHTTPSource[Piece]:
        timeout = request.options.timeout
        return self.transport.open(self._call(request, await self._model(timeout)), timeout)

    async def _prompt_tokens(self, request: Request) -> int | None:
        prompt = self.to_count(request)
        return None if prompt is None else len(await self._ids(prompt, request.options.timeout))

    async def _tokenize(self, text: str) -> list[int]:
        return await self._ids(text, self.options.timeout)

    async def _ids(self, text: str, timeout: Timeout) -> list[int]:
        return await self.transport.fetch(self.tokenize_call(text, await self._model(timeout)), timeout)

    async def _free(self) -> None:
        """Close idle connections."""
        if "transport" in vars(self):
            await self.transport.aclose()
