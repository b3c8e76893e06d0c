"""The half of `JAXServer` that answers: raw prompts, instructions, chats, whole and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from ...backends.jax.pipeline import AsyncJAXPipeline, JAXPipeline
from ...errors import LLMError
from ...jax_engine import Engine, EngineStats, FunctionEngine
from ..disconnect import NO_TIMEOUT
from ..openai.api import openai_routes
from ..openai.models import check_max_new_tokens
from .native_models import ChatRequest, InstructRequest, checked
from .native_routes import DOWN
from .process_stream import ProcessStream
from .prompts import Prompts
from .threads import close_on_disconnect

__all__ = ["Forwarding"]


class Forwarding(Prompts):
    """Answers with `engine`.

    Attributes:
        engine: What answers; None as long as there is nothing.
        app: Gets the OpenAI-style routes once there is an engine.
        number_of_served_request_until_last_up_time: Requests answered since it was made.
    """

    app: FastAPI
    engine: Engine | FunctionEngine | None = None
    number_of_served_request_until_last_up_time: int = 0
    _pipeline: JAXPipeline
    _funcs_generated: bool = False

    @property
    def ready(self) -> bool:
        """Whether there is a model that answers."""
        try:
            self._stats()
        except LLMError:  # there is none, or it is closed
            return False
        return True

    def process(
        self,
        string: str,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        *,
        temperature: float | None = None,
    ) -> ProcessStream:
        """Continue `string` as it is, without any format.

        Args:
            string: The prompt.
            greedy: Take the most probable token each time.
            max_new_tokens: Most tokens of the answer; None is the configuration's.
            temperature: Randomness; None is the configuration's.

        Returns:
            An iterator of (text so far, tokens so far); assigned to two names it is the last such pair.

        Raises:
            InvalidArgument: A value is out of range.
            LLMError: There is no model.
        """
        if not self.ready:
            raise LLMError("the server is down: it has no model")
        check_max_new_tokens(max_new_tokens, self._pipeline.context_len)
        stream = ProcessStream(
            self._pipeline.stream_generate(
                string, max_new_tokens=max_new_tokens, temperature=0.0 if greedy else temperature
            )
        )
        close_on_disconnect(stream)
        return stream

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> ProcessStream:
        """Answer an instruction step by step, for the instruct page. Arguments as for `stream_chat`."""
        string = self.format_instruct(prompt, system)
        return self.process(string, greedy, max_new_tokens, temperature=temperature)

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> ProcessStream:
        """Answer a chat step by step, for the chat page.

        Args:
            prompt: The new turn.
            history: Earlier (prompt, answer) pairs.
            greedy: Take the most probable token each time.
            max_new_tokens: Most tokens of the answer; None is the configuration's.
            temperature: Randomness; None is the configuration's.
            system: The system message; None is the configuration's.
        """
        string = self.format_chat(prompt, history, system)
        return self.process(string, greedy, max_new_tokens, temperature=temperature)

    def forward_instruct(self, data: InstructRequest) -> dict[str, Any]:
        """What POST /instruct answers."""
        return self._forward(self.format_instruct(data.prompt, data.system), data.greedy, data.temperature)

    def forward_chat(self, data: ChatRequest) -> dict[str, Any]:
        """What POST /chat answers."""
        return self._forward(self.format_chat(data.prompt, data.history), data.greedy, data.temperature)

    def forward_instruct_non_api(
        self, prompt: str, system: str | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """`forward_instruct` without HTTP."""
        return self.forward_instruct(checked(InstructRequest, prompt=prompt, system=system, greedy=greedy))

    def forward_chat_non_api(
        self, prompt: str, history: Sequence[Sequence[str]] | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """`forward_chat` without HTTP."""
        pairs = None if history is None else [list(pair) for pair in history]
        return self.forward_chat(checked(ChatRequest, prompt=prompt, history=pairs, greedy=greedy))

    def _answer_with(self, engine: Engine | FunctionEngine) -> None:
        self.engine, self._funcs_generated = engine, True
        config = self.config
        defaults: dict[str, Any] = {
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "top_k": config.top_k,
            "timeout": NO_TIMEOUT,
            "meta_template": getattr(engine.tokenizer, "template", None),
        }
        self._pipeline = JAXPipeline(engine=engine, **defaults)
        self._use_own_format(self._pipeline.template)
        self.app.include_router(openai_routes(AsyncJAXPipeline(engine=engine, **defaults), engine.path.name))

    def _stats(self) -> EngineStats:
        if self.engine is None:
            raise LLMError("the server is down: it has no model")
        return self.engine.stats()

    def _forward(self, string: str, greedy: bool | None, temperature: float | None) -> dict[str, Any]:
        if not self.ready:
            return dict(DOWN)
        response, used = self.process(string, greedy, None, temperature=temperature).result()
        self.number_of_served_request_until_last_up_time += 1
        return {"input": string, "response": response, "tokens_used": used}
