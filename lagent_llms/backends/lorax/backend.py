"""`LoRAX` and `AsyncLoRAX`: backends for a LoRAX server, with a LoRA adapter per request.

The server is stateless; the backend keeps the history of sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import InvalidArgument, ServerError
from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore
from ...http.secrets import Secrets
from ...locks import DeferredLock
from ...structured.formats import kind_of

if TYPE_CHECKING:
    from ...core.llm import PreparedCall
    from ...core.request import Input, Request
    from ...http.async_client import AsyncHTTPSource
    from ...http.exchange import Call
    from ...http.per_loop import LoopLocks
    from ...http.sync_client import HTTPSource
    from ...params import Timeout
    from ...schema import Piece

__all__ = ["AsyncLoRAX", "LoRAX", "LoRAXCore"]

#: Largest number of stop words if the server does not report it (the default of LoRAX's launcher).
_DEFAULT_MAX_STOP_WORDS = 4


class LoRAXCore(HTTPCore):
    """Client of a LoRAX server.

    With a `meta_template` the backend renders prompts and sends them to LoRAX's own route; without one it
    sends messages to /v1/chat/completions and the server applies its own template. A parameter that was not
    given is not sent (``sampling='server'``).

    Args:
        url: Base URL of the server, or a list of equal servers; see `HTTPCore`.
        api_key: Sent as a bearer token; the server also uses it as the token for private adapters.
        api_token: Token for private adapters, if it differs from `api_key`.
        **kwargs: See `HTTPCore`. The parameters adapter_id (synonym: adapter_name), adapter_source and
            merged_adapters select the adapter; a batch may give each as a list with one entry per prompt.

    Raises:
        InvalidArgument: An argument is not allowed.
    """

    takes_messages: ClassVar[bool] = True
    unsupported_parameters = frozenset({"min_p"})
    opt_in_parameters = HTTPCore.opt_in_parameters | {
        "sampling", "adapter_source", "merged_adapters", "frequency_penalty", "presence_penalty"
    }  # fmt: skip
    own_defaults: ClassVar[Mapping[str, Any]] = {"sampling": "server"}
    neutral_arguments = HTTPCore.neutral_arguments | {"api_token"}

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        api_key: str | None = None,
        api_token: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(url, api_key=api_key, **_check_adapters(kwargs))
        if api_token is not None and (not isinstance(api_token, str) or not api_token):
            raise InvalidArgument("api_token: allowed is None or a token (str)", argument="api_token")
        self._api_token = api_token
        self._max_stop_words: int | None = None
        self._served_model = self.model_name

    def prepare(self, inputs: Input, given: Mapping[str, Any]) -> PreparedCall:
        """See `LLMCore.prepare`; validates adapters too: an unknown merge strategy would abort the server."""
        return super().prepare(inputs, _check_adapters(given))

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; /v1/chat/completions ignores these parameters."""
        constraint = request.params.response_format
        if constraint is not None and kind_of(constraint) not in ("json", "schema"):
            self.refuse(request, ["response_format"], "because a LoRAX server constrains to JSON only")
        if request.prompt is None:
            self.refuse(
                request,
                ("logprobs", "merged_adapters", "chat_template_kwargs", "continue_final_message"),
                "for messages without a meta_template; with one they go to a route that supports it",
            )

    def check_batch(self, calls: list[tuple[Input, dict[str, Any]]]) -> list[tuple[Input, dict[str, Any]]]:
        """See `LLMCore.check_batch`."""
        return super().check_batch([(item, _check_adapters(given)) for item, given in calls])

    # Imported by the first call, so that importing or constructing a backend stays fast.

    def secrets(self) -> tuple[str, ...]:
        """See `KeepsCalls.secrets`."""
        return (*Secrets.of(self._api_token).values, *super().secrets())

    def import_protocol(self) -> None:
        """See `HTTPCore.import_protocol`."""
        from ...lorax import response_types  # noqa: F401
        from . import protocol  # noqa: F401

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from .protocol import Adapter, answer_call

        options = request.options
        adapter = Adapter(
            options.adapter_name, options.adapter_source, options.merged_adapters, self._api_token
        )
        stop = request.stop_words[: self._max_stop_words]
        return answer_call(request, adapter, model, stop=stop, bos=self._bos)

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from .protocol import token_ids_call

        return token_ids_call(text, bos=self._bos)

    def models_call(self) -> Call[list[str]]:
        """Build the call that returns the name of the base model; LoRAX does not list its adapters."""
        return self._info_call(lambda info: [info.model_id])

    def max_stop_words_call(self) -> Call[int]:
        """Build the call that returns the server's largest number of stop words."""
        return self._info_call(lambda info: info.max_stop_sequences)

    def _info_call(self, pick: Any) -> Call[Any]:
        import msgspec

        from ...lorax.protocol import get_call
        from ...lorax.response_types import Info

        return get_call("/info", lambda head, body: pick(msgspec.json.decode(body, type=Info)))

    def _needs_max_stop_words(self, request: Request) -> bool:
        return self._max_stop_words is None and bool(request.stop_words)

    def _set_max_stop_words(self, limit: int | None) -> None:
        self._max_stop_words = _DEFAULT_MAX_STOP_WORDS if limit is None else limit

    @property
    def _bos(self) -> str:
        return self.template.bos if self.template is not None else ""


class LoRAX(LoRAXCore, HTTPBackend):
    """Synchronous backend for a LoRAX server. The arguments: see `LoRAXCore`."""

    def __init__(self, url: str | Sequence[str], **kwargs: Any) -> None:
        super().__init__(url, **kwargs)
        self._limit_lock = DeferredLock()

    def _model(self, timeout: Timeout) -> str:
        return self.model_name or ""

    def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`."""
        if self._served_model is None:
            try:
                (self._served_model,) = self.transport.fetch(self.models_call(), timeout)
            except ServerError:
                self._served_model = _unknown_model()
        return self._served_model

    def _open(self, request: Request) -> HTTPSource[Piece]:
        if self._needs_max_stop_words(request):
            with self._limit_lock:
                if self._needs_max_stop_words(request):
                    try:
                        limit = self.transport.fetch(self.max_stop_words_call(), request.options.timeout)
                    except ServerError:  # some gateways do not forward /info
                        limit = None
                    self._set_max_stop_words(limit)
        return super()._open(request)


class AsyncLoRAX(LoRAXCore, AsyncHTTPBackend):
    """Asynchronous `LoRAX`."""

    @cached_property
    def _limit_lock(self) -> LoopLocks:
        """One lock per event loop, held while the server's limit is fetched."""
        from ...http.per_loop import LoopLocks

        return LoopLocks()

    async def _model(self, timeout: Timeout) -> str:
        return self.model_name or ""

    async def served_model(self, timeout: Timeout) -> str:
        """See `KeepsCalls.served_model`."""
        if self._served_model is None:
            try:
                (self._served_model,) = await self.transport.fetch(self.models_call(), timeout)
            except ServerError:
                self._served_model = _unknown_model()
        return self._served_model

    async def _open(self, request: Request) -> AsyncHTTPSource[Piece]:
        if self._needs_max_stop_words(request):
            async with await self._limit_lock.get():
                if self._needs_max_stop_words(request):
                    try:
                        limit = await self.transport.fetch(
                            self.max_stop_words_call(), request.options.timeout
                        )
                    except ServerError:  # some gateways do not forward /info
                        limit = None
                    self._set_max_stop_words(limit)
        return await super()._open(request)


def _unknown_model() -> str:
    """A name for the model of a gateway that does not forward /info: no other client shares its answers."""
    from uuid import uuid4

    return uuid4().hex


def _check_adapters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Validate and convert the adapter parameters in `given`; lists are validated per prompt.

    Raises:
        InvalidArgument: A value is not allowed.
    """
    found = dict(given)
    for name in ("adapter_source", "merged_adapters"):
        value = found.get(name)
        if value is not None and not isinstance(value, (list, tuple)):
            from ...lorax.request_types import Parameters

            found[name] = getattr(Parameters(**{name: value}), name)
    return found
