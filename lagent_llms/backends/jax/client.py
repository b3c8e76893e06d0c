"""`JAXClient` and `AsyncJAXClient`: clients of a `JAXServer` or ``lagent-llms serve`` over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore

if TYPE_CHECKING:
    from ...core.request import Request
    from ...http.exchange import Call
    from ...schema import Piece

__all__ = ["AsyncJAXClient", "JAXClient", "JAXClientCore"]


class JAXClientCore(HTTPCore):
    """Client of a `JAXServer`. The arguments are those of `HTTPCore`.

    With a `meta_template` the client renders prompts; without one it sends messages and the server applies
    the model's own template. A parameter that was not given is not sent (``sampling='server'``).
    """

    takes_messages: ClassVar[bool] = True
    unsupported_parameters = frozenset({"adapter_name", "tool_choice"})
    opt_in_parameters = HTTPCore.opt_in_parameters | {
        "sampling", "frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias"
    }  # fmt: skip
    own_defaults: ClassVar[Mapping[str, Any]] = {"sampling": "server"}

    # Imported by the first call, so that importing or constructing a client stays fast.

    def import_protocol(self) -> None:
        """See `HTTPCore.import_protocol`."""
        from . import protocol  # noqa: F401

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from . import protocol

        return protocol.answer_call(request, model)

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from . import protocol

        return protocol.tokenize_call(text, model)

    def count_call(self, request: Request, model: str) -> Call[list[int]]:
        """Build the call that returns the token ids of the prompt the server renders from messages."""
        from . import protocol

        return protocol.tokenize_call(request.messages or (), model, request.options)

    def models_call(self) -> Call[list[str]]:
        """See `HTTPCore.models_call`."""
        from . import protocol

        return protocol.models_call()


class JAXClient(JAXClientCore, HTTPBackend):
    """Synchronous client of a `JAXServer`. The arguments are those of `HTTPCore`."""

    def _prompt_tokens(self, request: Request) -> int | None:
        if self.session_len is None or request.prompt is not None:
            return super()._prompt_tokens(request)
        timeout = request.options.timeout
        return len(self.transport.fetch(self.count_call(request, self._model(timeout)), timeout))


class AsyncJAXClient(JAXClientCore, AsyncHTTPBackend):
    """Asynchronous `JAXClient`."""

    async def _prompt_tokens(self, request: Request) -> int | None:
        if self.session_len is None or request.prompt is not None:
            return await super()._prompt_tokens(request)
        call = self.count_call(request, await self._model(request.options.timeout))
        tokens: list[int] = await self.transport.fetch(call, request.options.timeout)
        return len(tokens)
