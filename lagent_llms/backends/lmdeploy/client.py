"""`LMDeployClient` and `AsyncLMDeployClient`: lmdeploy's api_server, or its proxy, over HTTP.

Its sessions are stateless, so the history of ours is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore

if TYPE_CHECKING:
    from ...core.request import Request
    from ...http.exchange import Call
    from ...schema import Piece

__all__ = ["AsyncLMDeployClient", "LMDeployClient", "LMDeployCore"]


class LMDeployCore(HTTPCore):
    """lmdeploy's api_server.

    With a `meta_template` prompts are assembled here and go to /v1/completions; without one messages go to
    /v1/chat/completions and the server's own template applies. The arguments are those of `HTTPCore`.
    """

    takes_messages: ClassVar[bool] = True

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; /v1/completions would drop these, or break off at logprobs."""
        if request.prompt is not None:
            self.refuse(
                request,
                ("logprobs", "response_format", "tool_choice"),
                "for a prompt; messages without a meta_template go to a route that can",
            )

    # The protocol is imported by the first call: who only names a client does not wait for it.

    def answer_call(self, request: Request, model: str) -> Call[Piece]:
        """See `HTTPCore.answer_call`."""
        from . import protocol

        bos = self.template.bos if self.template is not None else ""
        return protocol.answer_call(request, request.options.adapter_name or model, bos=bos)

    def tokenize_call(self, text: str, model: str) -> Call[list[int]]:
        """See `HTTPCore.tokenize_call`."""
        from . import protocol

        return protocol.tokenize_call(text)

    def models_call(self) -> Call[list[str]]:
        """See `HTTPCore.models_call`."""
        from . import protocol

        return protocol.models_call()


class LMDeployClient(LMDeployCore, HTTPBackend):
    """lmdeploy's api_server, called synchronously. The arguments are those of its base class."""


class AsyncLMDeployClient(LMDeployCore, AsyncHTTPBackend):
    """`LMDeployClient`, called with await."""
