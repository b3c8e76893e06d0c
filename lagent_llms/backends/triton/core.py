"""The arguments of `TritonClient` and its asynchronous twin, and what both do with them. No I/O."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from ... import validators
from ...core.llm import LLMCore
from ...core.request import Request
from ...errors import (
    ConfigError,
    InvalidArgument,
    LLMError,
    MissingDependency,
    NotFound,
    TimeoutExceeded,
    UnsupportedParameter,
)
from ...http.endpoints import check_host
from ...http.limits import Limits
from ...http.messages import check_headers
from ...http.secrets import Secrets, hide_credentials
from ...http.session_argument import check_session
from ...params import Timeout
from ...retry import with_max_retries
from .dialects.registry import dialect_named
from .discovery import Finder, LazyConversation, ModelSelector, list_models
from .tokenizer import LocalTokenizer

if TYPE_CHECKING:
    import aiohttp
    import requests
    from typing_extensions import Unpack

    from ...params import BackendKwargs
    from ...templates import TemplateSpec
    from .grpc_channel import GRPCSettings

__all__ = ["Server", "TritonCore"]

#: Seconds between two checks whether the model is ready.
_POLL_INTERVAL = 0.1
_METADATA_NAME = re.compile(r"[0-9A-Za-z_.-]+(?<!-[Bb]in)")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")
_SCHEMES = ("grpc", "grpcs", "http", "https")


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address and how to connect to it.

    Attributes:
        scheme: 'grpc', 'grpcs', 'http' or 'https'.
        address: 'ip:port'.
        headers: Sent with every request.
        verify: A file of trusted certificates, True for the system's, False to accept any (HTTP only).
        certificate: Files of the client's own certificate and key.
        server_name: The name that the server's certificate must have.
        keepalive: Seconds of silence after which a gRPC connection is tested, None for never.
        options: Further options of the gRPC channel.
    """

    scheme: str
    address: str
    headers: Mapping[str, str] = field(repr=False)
    verify: bool | str | os.PathLike[str]
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None
    server_name: str | None
    keepalive: float | None
    options: Mapping[str, int | str]

    @property
    def is_http(self) -> bool:
        """Whether the address is that of the HTTP service."""
        return self.scheme.startswith("http")

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"{self.scheme}://{self.address}"


class TritonCore(LLMCore):
    """A model behind Triton Inference Server.

    Args:
        tritonserver_addr: 'ip:port' of the gRPC service; 'grpcs://ip:port' with TLS; 'http://ip:port' or
            'https://ip:port' of the HTTP service.
        model_name: The model; None takes the only one that fits. If the server has lmdeploy's three turbomind
            models, any name that it does not have means those.
        meta_template: See `LLMCore`.
        session_len: See `LLMCore`; `tokenizer` says how it is counted.
        log_level: Level of the logger 'lagent_llms.triton'; None does not change it.
        dialect: The model's dialect: 'trtllm', 'llmapi', 'vllm', 'lmdeploy', 'turbomind', or a registered
            one; None detects it from the model's config.
        tokenizer: Counts tokens locally: a tokenizer.json, its directory, or an object with ``encode`` (and,
            for turbomind, ``decode(ids, skip_special_tokens=…)``). None uses the server's model
            `preprocessing`, if there is one. Needed to check `session_len` for prompts that may not fit, for
            `tokenize`, and to count the answers of servers that do not.
        cumulative: Whether every response holds the whole text so far; None detects it.
        echo: Whether the prompt stands before the answer although the request excludes it; None detects it.
        api_key: Sent as a bearer token.
        headers: Sent with every request.
        verify: A file of trusted certificates; True uses the system's, False accepts any (HTTP only).
        session: For the HTTP service; see `lagent_llms.http.backend.HTTPCore`.
        limits: See `lagent_llms.http.backend.HTTPCore`; over gRPC only `response_bytes` applies.
        certificate: Files of the client's own certificate and key.
        server_name: The name that the server's certificate must have, None for that of the address.
        keepalive: Seconds of silence after which a gRPC connection is tested; None never tests it. A server
            closes connections that are tested more often than it allows (by default every 300 s without
            data).
        channel_options: Further options of the gRPC channel ('grpc.…').
        max_retries: Short for ``retry=RetryPolicy(max_retries=…)``; see `RetryPolicy`.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Raises:
        InvalidArgument: An argument is not valid.
        ConfigError: The dialect is unknown, or a file cannot be read.
        MissingDependency: The address is that of a gRPC service, and the extra `triton` is not installed.
    """

    unsupported_parameters: ClassVar[frozenset[str]] = frozenset({"tool_choice"})
    needs_limit: ClassVar[bool] = True  # models require the input, or take it as 16
    opt_in_parameters: ClassVar[frozenset[str]] = frozenset(
        {
            *("priority", "parameters", "extra_inputs", "sampling"),
            *("frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias"),
        }
    )
    #: The type of `session` that is allowed.
    session_type: ClassVar[str] = "requests.Session"
    neutral_arguments = LLMCore.neutral_arguments | {
        "tritonserver_addr", "model_name", "log_level", "tokenizer", "api_key", "headers", "verify",
        "session", "limits", "certificate", "server_name", "keepalive", "channel_options", "max_retries",
    }  # fmt: skip

    def __init__(
        self,
        tritonserver_addr: str,
        model_name: str | None = None,
        *,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        log_level: int | str | None = None,
        dialect: str | None = None,
        tokenizer: Any = None,
        cumulative: bool | None = None,
        echo: bool | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | str | os.PathLike[str] = True,
        session: requests.Session | aiohttp.ClientSession | None = None,
        limits: Limits | Mapping[str, int] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        server_name: str | None = None,
        keepalive: float | None = None,
        channel_options: Mapping[str, int | str] | None = None,
        max_retries: int | None = None,
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
        api_key = validators.api_key("api_key", api_key)
        if dialect is not None:
            dialect_named(dialect)
        scheme, address = _address(tritonserver_addr)
        if verify is False and scheme == "grpcs":
            raise InvalidArgument(
                "verify=False: gRPC always checks certificates; give a file of trusted ones",
                argument="verify",
            )
        check_session(session, self.session_type)
        if session is not None and not scheme.startswith("http"):
            raise InvalidArgument(
                f"session: {scheme}://{address} is a gRPC service; a session needs the address of the HTTP "
                "service ('http://ip:port')",
                argument="session",
            )
        authorization = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.model_name = model_name
        self.server = Server(
            scheme,
            address,
            _headers(
                {**authorization, **check_headers(headers or {})}, text_only=not scheme.startswith("http")
            ),
            verify,
            certificate,
            server_name,
            keepalive,
            channel_options or {},
        )
        self._http_session: Any = session
        self.limits = Limits.of(limits)
        local = None if tokenizer is None else LocalTokenizer(tokenizer)
        bos = self.template.bos if self.template is not None else ""
        self._tokenizer = local
        self.finder = Finder(ModelSelector(model_name, dialect, bos, session_len, local, cumulative, echo))
        if log_level is not None:
            try:
                logging.getLogger("lagent_llms.triton").setLevel(log_level)
            except (ValueError, TypeError) as error:
                raise InvalidArgument(f"log_level={log_level!r}: {error}", argument="log_level") from error
        if not self.server.is_http and any(map(_is_missing, ("tritonclient", "grpc"))):
            raise MissingDependency.of("tritonclient[grpc]", "triton")

    def local_vocabulary(self) -> tuple[Collection[str], Callable[[str], str] | None]:
        """See `ContentGuards.local_vocabulary`."""
        if self._tokenizer is None:
            return (), None
        return self._tokenizer.marked.special_tokens, self._tokenizer.marked.normalize

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.server.url!r}, {self.model_name!r})"

    def secrets(self) -> tuple[str, ...]:
        """See `KeepsCalls.secrets`."""
        return Secrets.of(*Secrets.in_headers(self.server.headers)).values

    def http_options(self) -> dict[str, Any]:
        """Return the options of the HTTP transport."""
        return {
            "headers": self.server.headers,
            "verify": self.server.verify,
            "session": self._http_session,
            "limits": self.limits,
        }

    def grpc_settings(self) -> GRPCSettings:
        """Return the settings of the gRPC channel."""
        from .grpc_channel import GRPCSettings

        server = self.server
        return GRPCSettings(
            server.address,
            server.headers,
            tls=server.scheme == "grpcs",
            verify=None if isinstance(server.verify, bool) else server.verify,
            certificate=server.certificate,
            server_name=server.server_name,
            keepalive=server.keepalive,
            options=server.options,
            max_response_bytes=self.limits.response_bytes,
        )

    def conversation(self, request: Request) -> LazyConversation:
        """Return the conversation that sends `request`."""
        return LazyConversation(self.finder, request)

    def ready_models(self) -> Generator[Any, Any, list[str]]:
        """Return the names of the models that are ready."""
        states = yield from list_models()
        return sorted(name for name, state in states.items() if state["state"] == "READY")

    def require_ids(self, ids: list[int] | None) -> list[int]:
        """Return the token ids that `Finder.tokenize` has found.

        Raises:
            UnsupportedParameter: There are none, because neither client nor server can tokenize.
        """
        if ids is None:
            raise UnsupportedParameter(
                f"{self!r}: the server cannot count tokens, which session_len and tokenize need: "
                "give the model's tokenizer with tokenizer=…",
                parameter="session_len",
                backend=type(self).__name__,
            )
        return ids

    def poll_timeout(self, end: float) -> Timeout:
        """Return the limits of one readiness check, of which the last ends at `end` (monotonic seconds)."""
        left = max(0.05, end - time.monotonic())
        return Timeout(connect=left, first_token=left, idle=left)

    def poll_delay(self, error: LLMError, end: float, timeout: float) -> float:
        """Return the seconds until the next readiness check, after one has failed with `error`.

        Raises:
            LLMError: The error is permanent, or the timeout is over.
        """
        if isinstance(error, (NotFound, ConfigError)):
            raise error
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutExceeded(
                f"{self!r} was not ready within {timeout:g} s: {error}", phase="total", seconds=timeout
            ) from error
        return min(_POLL_INTERVAL, left)


def _is_missing(package: str) -> bool:
    from importlib.util import find_spec  # here, so that the import stays light

    return find_spec(package) is None


def _headers(given: Mapping[str, str], *, text_only: bool) -> dict[str, str]:
    """Return `given` checked; gRPC allows fewer names than HTTP, and only printable ASCII as values."""
    headers = check_headers(given)
    for name, value in headers.items() if text_only else ():
        if not _METADATA_NAME.fullmatch(name) or not _METADATA_VALUE.fullmatch(value):
            raise InvalidArgument(  # the value is not shown: it may be a secret
                f"headers: {name!r} cannot be sent over gRPC, which takes letters, digits, '-', '_' and '.' "
                "(without '-bin') as a name, printable ASCII as its value",
                argument="headers",
            )
    return headers


def _address(value: object) -> tuple[str, str]:
    """Return scheme and 'ip:port'."""
    refusal = InvalidArgument(
        f"tritonserver_addr={hide_credentials(value)!r}: allowed is 'ip:port' of the gRPC service, "
        "'grpcs://ip:port' with TLS, or 'http://ip:port' of the HTTP service",
        argument="tritonserver_addr",
    )
    if not isinstance(value, str) or not value.strip():
        raise refusal
    text = value.strip().rstrip("/")
    try:
        parts = urlsplit(text if "://" in text else f"grpc://{text}")
        check_host(parts)
    except ValueError:
        raise refusal from None
    if parts.scheme not in _SCHEMES or not parts.port or "@" in text:
        raise refusal
    if parts.path or parts.query or parts.fragment:
        raise refusal
    return parts.scheme, parts.netloc
