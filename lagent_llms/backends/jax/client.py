"""`JAXClient` and `AsyncJAXClient`: a `JAXServer`, or ``lagent-llms serve``, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore

if TYPE_CHECKING:
    from ...core.request import Request
    from ...http.exchange import Call
    from ...schema import Piece

__all__ = ["AsyncJAXClient", "JAXClient", "JAXClientCore"]


class JAXClientCore(HTTPCore):
    """A `JAXServer`.

    With a `meta_template` prompts are assembled here; without one messages go to the server, whose model's
    own template applies. The arguments are those of `HTTPCore`.
    """

    takes_messages: ClassVar[bool] = True
    unsupported_parameters = frozenset({"response_format", "adapter_name", "tool_choice"})

    # The protocol is imported by the first call: who only names a client does not wait for it.

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from . import protocol

        return protocol.answer_call(request, model)

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from . import protocol

        return protocol.tokenize_call(text, model)

    def count_call(self, request: Request, model: str) -> Call[list[int]]:
        """The call that asks for the token ids of the prompt that the server makes of messages."""
        from . import protocol

        return protocol.tokenize_call(request.messages or (), model, request.options.tools)

    def models_call(self) -> Call[list[str]]:
        """See `HTTPCore.models_call`."""
        from . import protocol

        return protocol.models_call()


class JAXClient(JAXClientCore, HTTPBackend):
    """A `JAXServer`, called synchronously. The arguments are those of its base class."""

    def _prompt_tokens(self, request: Request) -> int | None:
        if self.session_len is None or request.prompt is not None:
            return super()._prompt_tokens(request)
        timeout = request.options.timeout
        return len(self.transport.fetch(self.count_call(request, self._model(timeout)), timeout))


class AsyncJAXClient(JAXClientCore, AsyncHTTPBackend):
    """`JAXClient`, called with await."""

    async def _prompt_tokens(self, request: Request) -> int | None:
        if self.session_len is None or request.prompt is not None:
            return await super()._prompt_tokens(request)
        call = self.count_call(request, await self._model(request.options.timeout))
        tokens: list[int] = await self.transport.fetch(call, request.options.timeout)
        return len(tokens)
