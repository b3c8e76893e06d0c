"""`LoRAX` and `AsyncLoRAX`: a LoRAX server, whose requests each choose their LoRA adapter.

Its protocol is stateless, so the history of sessions is kept here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import InvalidArgument, ServerError
from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore

if TYPE_CHECKING:
    import asyncio

    from ...core.llm import PreparedCall
    from ...core.request import Input, Request
    from ...http.async_client import AsyncHTTPSource
    from ...http.exchange import Call
    from ...http.per_loop import PerLoop
    from ...http.sync_client import HTTPSource
    from ...lorax.protocol import Secrets
    from ...params import Timeout
    from ...schema import Piece

__all__ = ["AsyncLoRAX", "LoRAX", "LoRAXCore"]

#: Stop words that a server takes which does not tell (its launcher's default).
_USUAL_STOPS = 4


class LoRAXCore(HTTPCore):
    """A LoRAX server.

    With a `meta_template` prompts are assembled here and go to LoRAX's own route; without one messages go to
    /v1/chat/completions and the server's own template applies.

    Args:
        url: Base URL of the server, or a list of equal servers; see `HTTPCore`.
        api_key: Sent as a bearer token; the server takes it as the token for private adapters as well.
        api_token: The token for private adapters, where it is another one.
        **kwargs: See `HTTPCore`. Of the parameters, adapter_id (the same as adapter_name), adapter_source and
            merged_adapters choose the adapter; each may be given per call, and in a batch as a list with one
            entry a prompt.
    """

    takes_messages: ClassVar[bool] = True
    unsupported_parameters = frozenset({"min_p"})
    opt_in_parameters = frozenset({"adapter_source", "merged_adapters"})

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        api_key: str | None = None,
        api_token: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(url, api_key=api_key, **_checked(kwargs))
        if api_token is not None and (not isinstance(api_token, str) or not api_token):
            raise InvalidArgument("api_token: allowed is None or a token (str)", argument="api_token")
        self._api_token = api_token
        self._max_stops: int | None = None

    def prepare(self, inputs: Input, given: Mapping[str, Any]) -> PreparedCall:
        """See `LLMCore.prepare`; adapters are checked as well, since a wrong merge would stop the server."""
        return super().prepare(inputs, _checked(given))

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; /v1/chat/completions would drop these without a word."""
        if request.prompt is None:
            self.refuse(
                request,
                ("logprobs", "merged_adapters"),
                "for messages without a meta_template; with one they go to a route that can",
            )

    def check_batch(self, calls: list[tuple[Input, dict[str, Any]]]) -> list[tuple[Input, dict[str, Any]]]:
        """See `LLMCore.check_batch`."""
        return super().check_batch([(item, _checked(given)) for item, given in calls])

    # The protocol is imported by the first call: who only names a backend does not wait for it.

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from ...lorax.generation import Adapter, answer_call

        options = request.options
        adapter = Adapter(
            options.adapter_name, options.adapter_source, options.merged_adapters, self._api_token
        )
        stop = request.stop_words[: self._max_stops]
        return answer_call(request, adapter, model, stop=stop, bos=self._bos, secrets=self._secrets())

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from ...lorax.generation import token_ids_call

        return token_ids_call(text, bos=self._bos, secrets=self._secrets())

    def models_call(self) -> Call[list[str]]:
        """The name of the base model; LoRAX does not list its adapters."""
        return self._info_call(lambda info: [info.model_id])

    def limits_call(self) -> Call[int]:
        """The call that asks how many stop words the server takes."""
        return self._info_call(lambda info: info.max_stop_sequences)

    def _info_call(self, pick: Any) -> Call[Any]:
        import msgspec

        from ...lorax.answers import Info
        from ...lorax.protocol import get_call

        return get_call(
            "/info", lambda head, body: pick(msgspec.json.decode(body, type=Info)), self._secrets()
        )

    def _needs_limit(self, request: Request) -> bool:
        return self._max_stops is None and bool(request.stop_words)

    def _learn(self, limit: int | None) -> None:
        self._max_stops = _USUAL_STOPS if limit is None else limit

    @property
    def _bos(self) -> str:
        return self.template.bos if self.template is not None else ""

    def _secrets(self) -> Secrets:
        from ...lorax.protocol import Secrets

        options = self._transport_options
        return Secrets.of(options["api_key"], self._api_token, *Secrets.in_headers(options["headers"]))


class LoRAX(LoRAXCore, HTTPBackend):
    """A LoRAX server, called synchronously. The arguments are those of `LoRAXCore`."""

    def __init__(self, url: str | Sequence[str], **kwargs: Any) -> None:
        super().__init__(url, **kwargs)
        self._learning = threading.Lock()

    def _model(self, timeout: Timeout) -> str:
        return self.model_name or ""

    def _open(self, request: Request) -> HTTPSource[Piece]:
        if self._needs_limit(request):
            with self._learning:
                if self._needs_limit(request):
                    try:
                        limit = self.transport.fetch(self.limits_call(), request.options.timeout)
                    except ServerError:  # not every gateway lets /info through
                        limit = None
                    self._learn(limit)
        return super()._open(request)


class AsyncLoRAX(LoRAXCore, AsyncHTTPBackend):
    """`LoRAX`, called with await."""

    @cached_property
    def _learning(self) -> PerLoop[asyncio.Lock]:
        """The locks under which the limit is asked for, one a loop."""
        from ...http.per_loop import PerLoop

        return PerLoop(_new_lock, _let_be)

    async def _model(self, timeout: Timeout) -> str:
        return self.model_name or ""

    async def _open(self, request: Request) -> AsyncHTTPSource[Piece]:
        if self._needs_limit(request):
            async with await self._learning.get():
                if self._needs_limit(request):
                    try:
                        limit = await self.transport.fetch(self.limits_call(), request.options.timeout)
                    except ServerError:  # not every gateway lets /info through
                        limit = None
                    self._learn(limit)
        return await super()._open(request)


async def _new_lock() -> asyncio.Lock:
    import asyncio  # here, so that the import stays light

    return asyncio.Lock()


async def _let_be(lock: asyncio.Lock) -> None:
    """A lock needs no end."""


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with adapters as the server takes them; a list is checked when it is dealt out.

    Raises:
        InvalidArgument: One is not right.
    """
    found = dict(given)
    for name in ("adapter_source", "merged_adapters"):
        value = found.get(name)
        if value is not None and not isinstance(value, (list, tuple)):
            from ...lorax.parameters import Parameters

            found[name] = getattr(Parameters(**{name: value}), name)
    return found
