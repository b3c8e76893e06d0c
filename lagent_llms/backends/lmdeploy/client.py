"""`LMDeployClient` and `AsyncLMDeployClient`: clients of lmdeploy's api_server, or its proxy, over HTTP.

The server is stateless; the client keeps the history of sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...content_parts import AcceptedParts
from ...http.backend import AsyncHTTPBackend, HTTPBackend, HTTPCore
from .parts import LMDEPLOY_PARTS

if TYPE_CHECKING:
    from ...core.request import Request
    from ...http.exchange import Call
    from ...schema import Piece

__all__ = ["AsyncLMDeployClient", "LMDeployClient", "LMDeployCore"]


class LMDeployCore(HTTPCore):
    """Client of lmdeploy's api_server. The arguments are those of `HTTPCore`.

    With a `meta_template` the client renders prompts and sends them to /v1/completions; without one it sends
    messages to /v1/chat/completions and the server applies its own template.
    """

    takes_messages: ClassVar[bool] = True
    opt_in_parameters = HTTPCore.opt_in_parameters | {
        "sampling", "min_new_tokens", "reasoning_effort"
    }  # fmt: skip

    @property
    def accepted_parts(self) -> AcceptedParts:
        """See `LLMCore.accepted_parts`."""
        return LMDEPLOY_PARTS

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; /v1/completions ignores these parameters, or fails for logprobs."""
        if request.prompt is not None:
            self.refuse(
                request,
                ("logprobs", "min_new_tokens", "reasoning_effort", "response_format", "tool_choice"),
                "for a prompt; messages without a meta_template go to a route that supports it",
            )

    # Imported by the first call, so that importing or constructing a client stays fast.

    def import_protocol(self) -> None:
        """See `HTTPCore.import_protocol`."""
        from . import protocol  # noqa: F401

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
    """Synchronous client of lmdeploy's api_server. The arguments are those of `HTTPCore`."""


class AsyncLMDeployClient(LMDeployCore, AsyncHTTPBackend):
    """Asynchronous `LMDeployClient`."""
