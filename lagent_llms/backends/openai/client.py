"""`OpenAIClient` and `AsyncOpenAIClient`: clients of any server with OpenAI's chat or completions routes.

Servers are stateless; the client keeps the history of sessions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ...content_parts import EVERY_PART, AcceptedParts
from ...errors import InvalidArgument, ServerError, UnsupportedParameter, nearest
from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore
from ...http.endpoints import split_api
from ...locks import DeferredLock, locked_cached_property
from .flavours import FLAVOURS

if TYPE_CHECKING:
    from ...core.request import Request
    from ...http.exchange import Call
    from ...http.per_loop import LoopLocks
    from ...params import Timeout
    from ...schema import Piece
    from .protocol import Listing

__all__ = ["AsyncOpenAIClient", "OpenAIClient", "OpenAICore"]

_OPENAI_URL = "https://api.openai.com/v1"


class OpenAICore(HTTPCore):
    """Client of a server with OpenAI's routes.

    With a `meta_template` the client renders prompts and sends them to /v1/completions; without one it sends
    messages to /v1/chat/completions and the server applies its own template. A parameter that was not given
    is not sent (``sampling='server'``, see `CallOptions`).

    Args:
        base_url: URL of the server, of its API (``…/v1``) or of a route (``…/v1/chat/completions``), or a
            list of equal servers; None is OPENAI_BASE_URL, else OpenAI's. `url` is the same.
        model: The server's name of the model; None asks the server. `model_name` is the same.
        flavour: The kind of server, a name of `FLAVOURS`: it selects the fields of requests. 'auto' asks the
            server once, before the first call.
        api_key: Sent as a bearer token; None, or lagent's 'ENV', is OPENAI_API_KEY. `key` is the same.
        organization: Header OpenAI-Organization; None is OPENAI_ORG_ID.
        project: Header OpenAI-Project; None is OPENAI_PROJECT_ID.
        headers: Sent with every request.
        **kwargs: See `HTTPCore`.

    Attributes:
        flavour: The server's flavour; 'auto' until it is known.

    Raises:
        InvalidArgument: An argument is not allowed.
        UnsupportedParameter: The flavour does not take a parameter.
    """

    takes_messages: ClassVar[bool] = True
    opt_in_parameters = HTTPCore.opt_in_parameters | {
        "sampling", "frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias",
        "reasoning_effort",
    }  # fmt: skip
    own_defaults: ClassVar[Mapping[str, Any]] = {"sampling": "server"}
    neutral_arguments = HTTPCore.neutral_arguments | {"base_url", "model", "organization", "project"}

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        model: str | None = None,
        *,
        flavour: str = "auto",
        api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        headers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if flavour not in ("auto", *FLAVOURS):
            raise InvalidArgument(
                f"flavour={flavour!r}: allowed are 'auto', {', '.join(map(repr, FLAVOURS))}"
                f"{nearest(str(flavour), FLAVOURS)}",
                argument="flavour",
            )
        self.flavour = flavour
        self._apis: set[str] = set()
        base_url = _one_of("base_url", base_url, "url", kwargs)
        if api_key is None and kwargs.get("key") == "ENV":
            del kwargs["key"]
        is_in_environment = api_key in (None, "ENV") and kwargs.get("key") is None
        named = {
            name: value
            for name, value in (
                ("OpenAI-Organization", organization or _environment("OPENAI_ORG_ID")),
                ("OpenAI-Project", project or _environment("OPENAI_PROJECT_ID")),
            )
            if value
        }
        super().__init__(
            _environment("OPENAI_BASE_URL") or _OPENAI_URL if base_url is None else base_url,
            _one_of("model", model, "model_name", kwargs),
            api_key=_environment("OPENAI_API_KEY") if is_in_environment else api_key,
            headers={**named, **headers} if isinstance(headers, Mapping) else headers or named,
            **kwargs,
        )
        if len(self._apis) > 1:
            raise InvalidArgument(
                f"base_url: the servers of a list must have the same path, got {sorted(self._apis)}",
                argument="base_url",
            )
        self._api = self._apis.pop()
        self._is_guess = flavour != "auto"  # the server was not asked
        if self._is_guess:
            self._check_flavour(self)

    def base_url(self, url: str) -> str:
        """See `HTTPCore.base_url`."""
        base, api = split_api(url)
        self._apis.add(api)
        return base

    @property
    def unsupported(self) -> frozenset[str]:
        """See `ParameterDefaults.unsupported`."""
        found = FLAVOURS.get(self.flavour)
        return super().unsupported if found is None else super().unsupported | found.unsupported

    @property
    def accepted_parts(self) -> AcceptedParts:
        """See `LLMCore.accepted_parts`; 'auto' is checked once the server has said what it is."""
        found = FLAVOURS.get(self.flavour)
        return EVERY_PART if found is None else found.parts

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; 'auto' is checked once the server has said what it is."""
        if self.flavour == "auto":
            return
        flavour = FLAVOURS[self.flavour]
        self._check_flavour(request)
        if (constraint := request.params.response_format) is not None:
            try:
                flavour.constraint_fields(constraint, prompt=request.prompt is not None)
            except ValueError as error:
                self.refuse(request, ["response_format"], f"for flavour={self.flavour!r}: {error}")
        if request.prompt is not None:
            self.refuse(
                request,
                flavour.not_for_prompts,
                "for a prompt; messages without a meta_template go to a route that supports it",
            )
            if not flavour.takes_prompts:
                raise UnsupportedParameter(
                    f"{type(self).__name__} cannot honour a prompt (or meta_template) for "
                    f"flavour={self.flavour!r}, which puts every prompt into the model's own template; give "
                    "messages without a meta_template",
                    parameter="meta_template",
                    backend=type(self).__name__,
                )

    def _check_flavour(self, call: Request | OpenAICore) -> None:
        """Refuse what the flavour does not take.

        Raises:
            UnsupportedParameter: A parameter was given that the flavour does not take.
        """
        flavour = FLAVOURS[self.flavour]
        if given := flavour.unsupported & (call.params.given | call.options.given):
            self.refuse(call, given, f"for flavour={self.flavour!r}")
        if self.session_len is not None and flavour.tokenize is None:
            raise self._uncountable(f"session_len={self.session_len}")

    def _uncountable(self, what: str) -> UnsupportedParameter:
        return UnsupportedParameter(
            f"{type(self).__name__} cannot honour {what}: flavour={self.flavour!r} has no route that counts "
            "tokens",
            parameter="session_len",
            backend=type(self).__name__,
        )

    # Imported by the first call, so that importing or constructing a client stays fast.

    def import_protocol(self) -> None:
        """See `HTTPCore.import_protocol`."""
        from . import protocol  # noqa: F401

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from . import protocol

        self.check_request(request)
        if request.messages is not None and request.prompt is None:
            messages = self._with_accepted_parts(request.messages)  # 'auto' is known only now
            if messages is not request.messages:
                request = replace(request, messages=[*messages])
        return protocol.answer_call(
            request, model, self.flavour, api=self._api, bos=self._bos, is_guess=self._is_guess
        )

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from . import protocol

        if FLAVOURS[self.flavour].tokenize is None:
            raise self._uncountable("tokenize()" if self.session_len is None else "session_len")
        return protocol.tokenize_call(text, model, self.flavour, bos=self._bos)

    def models_call(self) -> Call[list[str]]:
        """See `HTTPCore.models_call`."""
        from . import protocol

        return protocol.models_call(self._api)

    def listing_call(self) -> Call[Listing]:
        """Build the call that asks the server for its models and its flavour."""
        from . import protocol

        return protocol.listing_call(self._api)

    @property
    def _bos(self) -> str:
        return self.template.bos if self.template is not None else ""

    @property
    def _unknown(self) -> bool:
        """Whether the server must be asked before a request can be made."""
        return self.flavour == "auto" or self.model_name is None

    def _learn(self, found: Listing) -> None:
        """Store what the server says of itself."""
        if self.model_name is None:
            self._set_model_name(found.models)
        if self.flavour == "auto":
            self.flavour = found.flavour

    def _learn_from(self, error: ServerError) -> None:
        """Store what it means that the server has no list of models.

        Raises:
            ServerError: `error`, if it means something else, or the list was needed.
        """
        if self.model_name is None or error.status_code not in (404, 405, 501):
            raise error
        self.flavour = "compatible"


class OpenAIClient(OpenAICore, HTTPBackend):
    """Synchronous client of a server with OpenAI's routes. The arguments are those of `OpenAICore`."""

    @locked_cached_property
    def _lock(self) -> DeferredLock:
        """Held while the server is asked what it is."""
        return DeferredLock()

    def _model(self, timeout: Timeout) -> str:
        if self._unknown:
            with self._lock:
                if self._unknown:
                    try:
                        self._learn(self.transport.fetch(self.listing_call(), timeout))
                    except ServerError as error:
                        self._learn_from(error)
        return self.model_name or ""


class AsyncOpenAIClient(OpenAICore, AsyncHTTPBackend):
    """Asynchronous `OpenAIClient`."""

    @cached_property
    def _lock(self) -> LoopLocks:
        """Held while the server is asked what it is."""
        from ...http.per_loop import LoopLocks

        return LoopLocks()

    async def _model(self, timeout: Timeout) -> str:
        if self._unknown:
            async with await self._lock.get():
                if self._unknown:
                    try:
                        self._learn(await self.transport.fetch(self.listing_call(), timeout))
                    except ServerError as error:
                        self._learn_from(error)
        return self.model_name or ""


def _environment(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _one_of(name: str, value: Any, other: str, kwargs: dict[str, Any]) -> Any:
    """The value of a parameter with two names; `other` is taken out of `kwargs`.

    Raises:
        InvalidArgument: Both names are given.
    """
    second = kwargs.pop(other, None)
    if value is not None and second is not None:
        raise InvalidArgument(f"{name} and {other} are the same; only one can be given", argument=name)
    return second if value is None else value
