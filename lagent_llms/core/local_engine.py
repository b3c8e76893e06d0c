"""What backends share whose engine in this process takes token ids and reports `TokenEvent` s."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar

from ..errors import ContextLengthExceeded
from ..templates.injection import MARK
from .base import AsyncBaseLLM, BaseLLM
from .callbacks import AsyncCallbackSource, CallbackSource, Handle
from .llm import LLMCore
from .request import Request
from .token_events import TokenDecoder, TokenEvent

__all__ = ["AsyncLocalEngineLLM", "LocalEngineCore", "LocalEngineLLM"]

#: Prompts of at least this many characters are tokenized in a thread, so that they do not block the loop.
_LONG_PROMPT = 4_000


class LocalEngineCore(LLMCore):
    """A model in this process, run by an engine with its own thread.

    Attributes:
        engine: The engine; it has a `tokenizer` (`token_events.Tokenizer`) and `close()`.
    """

    in_process: ClassVar[bool] = True
    engine: Any

    @abstractmethod
    def _submit_ids(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> Handle:
        """Submit a tokenized prompt to the engine; see `callbacks.Submit`."""

    def local_vocabulary(self) -> tuple[Collection[str], Callable[[str], str] | None]:
        """See `ContentGuards.local_vocabulary`."""
        marked = getattr(self.engine.tokenizer, "marked", None)  # a tokenizer of the caller's may have none
        return ((), None) if marked is None else (marked.special_tokens, marked.normalize)

    def check_prompt_size(self, prompt: str) -> None:
        """See `LLMCore.check_prompt_size`; a tokenizer without `longest_token` sets no limit."""
        context = self.context_len
        if context is None or len(prompt) <= context:
            return
        longest: int | None = getattr(self.engine.tokenizer, "longest_token", None)
        size = len(prompt.encode("utf-8", "surrogatepass"))
        if longest is not None and size > longest * context:
            raise ContextLengthExceeded(
                f"the prompt has {size} bytes, which are {-(-size // longest)} tokens or more: the model's "
                f"context is {context} tokens"
            )

    def _encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of a prompt, with at most one BOS, and only if the tokenizer adds one."""
        tokenizer = self.engine.tokenizer
        has_bos = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        ids: list[int] = tokenizer.encode(text, add_bos=add_bos and not has_bos)
        return ids

    def _prompt_ids(self, request: Request) -> list[int]:
        assert request.prompt is not None
        self.check_prompt_size(request.prompt)
        return self._encode(request.prompt, add_bos=request.add_bos)

    def _submit(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> tuple[Handle, TokenDecoder]:
        decoder = TokenDecoder(self.engine.tokenizer, request, len(ids))
        return self._submit_ids(ids, request, on_event, on_wait), decoder

    def _close_engine(self) -> None:
        """Close the engine; running requests end with an error."""
        self.engine.close()


class LocalEngineLLM(LocalEngineCore, BaseLLM):
    """The synchronous half of such a backend."""

    def _open(self, request: Request) -> CallbackSource[TokenEvent]:
        return CallbackSource(request, partial(self._submit, self._prompt_ids(request)), self)

    def _tokenize(self, text: str) -> list[int]:
        return self._encode(text)

    def _free(self) -> None:
        self._close_engine()


class AsyncLocalEngineLLM(LocalEngineCore, AsyncBaseLLM):
    """The asynchronous half of such a backend."""

    async def _open(self, request: Request) -> AsyncCallbackSource[TokenEvent]:
        prompt = request.prompt or ""
        if len(prompt) < _LONG_PROMPT and MARK not in prompt:  # the first mark loads a second tokenizer
            ids = self._prompt_ids(request)
        else:
            ids = await asyncio.to_thread(self._prompt_ids, request)
        return AsyncCallbackSource(request, partial(self._submit, ids), self)

    async def _tokenize(self, text: str) -> list[int]:
        return self._encode(text) if len(text) < _LONG_PROMPT else await asyncio.to_thread(self._encode, text)

    async def _free(self) -> None:
        self._close_engine()
