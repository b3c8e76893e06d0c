"""The calls that all APIs make on a backend: one path to the model for every route."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .. import validators
from ..core.base import AsyncBaseLLM
from ..core.streams import AsyncStream
from ..errors import NotFound, UnsupportedParameter
from ..schema import Completion
from ..templates.injection import escaped_prompt
from .disconnect import Injection, call_keywords
from .request_bodies import off_loop

if TYPE_CHECKING:
    from fastapi import Request

__all__ = ["Calls"]


class Calls:
    """Makes the calls of HTTP clients on one backend.

    Args:
        llm: The backend.
        model: Its model name; a request for another model gets 404.
        injection: See `call_keywords`.
        seconds: See `call_keywords`.
    """

    def __init__(
        self,
        llm: AsyncBaseLLM,
        model: str,
        *,
        injection: Injection | None = None,
        seconds: float | None = None,
    ) -> None:
        self.llm = llm
        self.model = model
        self._fixed = call_keywords(llm, injection, seconds)

    @property
    def takes_images(self) -> bool:
        """True if the backend can send images."""
        return self.llm.template is None and "image_url" in self.llm.accepted_parts.types

    def check_model(self, requested: str) -> None:
        """Refuse a request for another model.

        Raises:
            NotFound: `requested` is not the served model.
        """
        if requested != self.model:
            raise NotFound(
                f"model={validators.shown(requested)}: this server's only model is {self.model!r}",
                code="model_not_found",
            )

    async def stream(self, request: Request, inputs: Any, keywords: dict[str, Any]) -> AsyncStream:
        """Begin a call: a prompt or messages, and the keyword arguments of `AsyncBaseLLM.complete`."""
        given = keywords | self._fixed
        return await off_loop(request, partial(self.llm.raising_stream, inputs, given))

    async def complete(self, request: Request, inputs: Any, keywords: dict[str, Any]) -> Completion:
        """Make a call and wait for its end."""
        stream = await self.stream(request, inputs, keywords)
        return await stream.drain()

    async def tokenize(
        self, request: Request, inputs: Any, keywords: dict[str, Any], instead: str = ""
    ) -> list[int]:
        """The token ids of the prompt that a call with these arguments would send.

        Args:
            request: The request.
            inputs: A prompt or messages.
            keywords: Keyword arguments of `AsyncBaseLLM.complete`.
            instead: For the error: what the client can do if a remote server makes the prompt.

        Raises:
            UnsupportedParameter: A remote server makes the prompt of messages.
        """

        def prompt() -> str:
            prepared = self.llm.prepare(inputs, keywords | self._fixed).request
            if prepared.prompt is None:
                reason = "cannot be tokenized here, because the remote server applies the chat template"
                raise UnsupportedParameter(f"messages: {reason}{instead}", parameter="messages")
            self.llm.check_prompt_size(prepared.prompt)
            return escaped_prompt(prepared.prompt)

        return await self.llm.tokenize(await off_loop(request, prompt))
