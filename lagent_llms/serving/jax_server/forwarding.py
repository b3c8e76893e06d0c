"""The part of `JAXServer` that generates: raw prompts, instructions and chats, whole or streamed."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter
from typing import Any

from fastapi import FastAPI

from ...backends.jax.pipeline import AsyncJAXPipeline, JAXPipeline
from ...errors import LLMError
from ...jax_engine import Engine, EngineStats, FunctionEngine
from ...templates.injection import MARK, ContentGuard, escaped_prompt
from ...templates.marks import marks_in
from ..apis import api_routes
from ..disconnect import NO_TIMEOUT
from ..openai.schemas import check_max_new_tokens
from .process_stream import ProcessStream
from .prompts import Prompts
from .routes import DOWN
from .schemas import ChatRequest, InstructRequest, validated
from .threads import close_on_disconnect

__all__ = ["Forwarding"]


class Forwarding(Prompts):
    """Generates with `engine`.

    Attributes:
        engine: Decodes requests; None while no model is loaded.
        app: The FastAPI application; has the OpenAI-compatible routes once a model is loaded.
        number_of_served_request_until_last_up_time: Number of `forward_…` calls answered so far.
    """

    app: FastAPI
    engine: Engine | FunctionEngine | None = None
    number_of_served_request_until_last_up_time: int = 0
    _pipeline: JAXPipeline
    _funcs_generated: bool = False
    _guard: ContentGuard | None = None

    @property
    def ready(self) -> bool:
        """True while a model is loaded."""
        try:
            self._stats()
        except LLMError:  # no engine, or a closed one
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
        """Continue `string`, without applying any format.

        Args:
            string: The prompt.
            greedy: True takes the most probable token at each step.
            max_new_tokens: Most tokens of the answer; None takes the configuration's.
            temperature: Sampling temperature; None takes the configuration's.

        Returns:
            An iterator of (text so far, tokens so far); unpacked into two names, the last such pair.

        Raises:
            InvalidArgument: A value is out of range.
            LLMError: No model is loaded.
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
        """Stream the answer to an instruction, for the instruct page; arguments as for `stream_chat`."""
        string = self._instruct_prompt(prompt, system)
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
        """Stream the answer to a chat, for the chat page.

        Args:
            prompt: The new turn.
            history: Earlier (prompt, answer) pairs.
            greedy: True takes the most probable token at each step.
            max_new_tokens: Most tokens of the answer; None takes the configuration's.
            temperature: Sampling temperature; None takes the configuration's.
            system: The system message; None takes the configuration's.

        Returns:
            See `process`.

        Raises:
            InvalidArgument: A value is out of range.
            LLMError: No model is loaded.
        """
        string = self._chat_prompt(prompt, history, system)
        return self.process(string, greedy, max_new_tokens, temperature=temperature)

    def forward_instruct(self, data: InstructRequest) -> dict[str, Any]:
        """Answer POST /instruct: a dict of input, response and tokens_used."""
        return self._forward(self._instruct_prompt(data.prompt, data.system), data.greedy, data.temperature)

    def forward_chat(self, data: ChatRequest) -> dict[str, Any]:
        """Answer POST /chat: a dict of input, response and tokens_used."""
        return self._forward(self._chat_prompt(data.prompt, data.history), data.greedy, data.temperature)

    def forward_instruct_non_api(
        self, prompt: str, system: str | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """Call `forward_instruct` without HTTP.

        Raises:
            InvalidArgument: A value has the wrong type or is out of range.
        """
        return self.forward_instruct(validated(InstructRequest, prompt=prompt, system=system, greedy=greedy))

    def forward_chat_non_api(
        self, prompt: str, history: Sequence[Sequence[str]] | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """Call `forward_chat` without HTTP.

        Raises:
            InvalidArgument: A value has the wrong type or is out of range.
        """
        pairs = None if history is None else [list(pair) for pair in history]
        return self.forward_chat(validated(ChatRequest, prompt=prompt, history=pairs, greedy=greedy))

    def _use_engine(self, engine: Engine | FunctionEngine) -> None:
        """Answer requests with `engine`; add the OpenAI-compatible routes."""
        self.engine, self._funcs_generated = engine, True
        config = self.config
        defaults: dict[str, Any] = {
            "max_new_tokens": config.max_new_tokens,
            "temperature": config.temperature,
            "top_p": config.top_p,
            "top_k": config.top_k,
            "timeout": NO_TIMEOUT,
            "injection": config.injection,
            "meta_template": getattr(engine.tokenizer, "template", None),
        }
        self._pipeline = JAXPipeline(engine=engine, **defaults)
        self._use_template_formats(self._pipeline.template)
        self.app.include_router(
            api_routes(
                AsyncJAXPipeline(engine=engine, **defaults),
                engine.path.name,
                injection=config.injection,
                seconds=self.app.state.limits.request_seconds,
            )
        )

    def _instruct_prompt(self, prompt: str, system: str | None) -> str:
        """`format_instruct` for texts of a client."""
        escape = self._escape
        return escaped_prompt(
            self.format_instruct(escape(prompt, "prompt"), system and escape(system, "system"))
        )

    def _chat_prompt(
        self, prompt: str, history: Sequence[Sequence[str]] | None, system: str | None = None
    ) -> str:
        """`format_chat` for texts of a client; the answers in `history` are the model's."""
        if self.config.injection != "allow" and history:
            history = [
                [self._escape(pair[0], f"history[{index}][0]"), *pair[1:]]
                if not isinstance(pair, str) and pair and isinstance(pair[0], str)
                else pair
                for index, pair in enumerate(history)
            ]
        text = self._escape(prompt, "prompt")
        if system is None:
            return escaped_prompt(self.format_chat(text, history))
        return escaped_prompt(self.format_chat(text, history, self._escape(system, "system")))

    def _escape(self, text: str, place: str) -> str:
        """A text of a client without special tokens, as `JAXServerConfig.injection` says."""
        mode = self.config.injection
        if mode == "allow" or not self.ready:
            return text
        if self._guard is None:
            config, template = self.config, self._pipeline.template
            formats = (config.instruct_format, config.chat_format)
            written = [text for one in formats for text, *_ in Formatter().parse(one)]
            written += [config.chat_prefix, config.prompt_prefix_chat, config.prompt_postfix_chat]
            tokens = (*marks_in(written), *(() if template is None else template.special_tokens))
            vocabulary, normalize = self._pipeline.local_vocabulary()
            self._guard = ContentGuard(
                tokens, mode, where=type(self).__name__, vocabulary=vocabulary, normalize=normalize
            )
        return self._guard.text(text, place)

    def _stats(self) -> EngineStats:
        if self.engine is None:
            raise LLMError("the server is down: it has no model")
        return self.engine.stats()

    def _forward(self, string: str, greedy: bool | None, temperature: float | None) -> dict[str, Any]:
        if not self.ready:
            return dict(DOWN)
        response, tokens_used = self.process(string, greedy, None, temperature=temperature).result()
        self.number_of_served_request_until_last_up_time += 1
        return {"input": string.replace(MARK, ""), "response": response, "tokens_used": tokens_used}
