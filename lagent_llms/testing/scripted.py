"""A model with scripted answers, run through the real base classes.

Use it to test an agent loop without a model, or failures that a real server cannot be made to produce.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core.base import AsyncBaseLLM, BaseLLM
from ..core.deadline import Deadline
from ..core.llm import LLMCore
from ..core.request import Request
from ..schema import Piece, Usage

if TYPE_CHECKING:
    from ..templates import TemplateSpec

__all__ = ["AsyncScriptedLLM", "Script", "ScriptedLLM"]

#: An answer: its whole text, or its pieces. A number is a pause in seconds; an exception is raised.
Script = str | Sequence[str | float | Exception]


class _ScriptedCore(LLMCore):
    """A model that answers from a script.

    Args:
        script: The answer to every request, or a function from a request to its answer.
        finish_reason: The finish reason of every answer; None ends the stream without one, as a server that
            crashes does.
        meta_template: The chat template, as for every backend.
        **kwargs: Further arguments of every backend.

    Attributes:
        requests: The requests received so far.
        open: Number of answers running now.
    """

    unsupported_parameters = frozenset({"response_format"})

    def __init__(
        self,
        script: Script | Callable[[Request], Script] = "ok",
        *,
        finish_reason: str | None = "stop",
        meta_template: TemplateSpec | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(meta_template=meta_template, **kwargs)
        self._script = script
        self._finish_reason = finish_reason
        self.requests: list[Request] = []
        self.open = 0
        self._lock = threading.Lock()

    def _begin(self, request: Request) -> list[str | float | Exception]:
        script = self._script(request) if callable(self._script) else self._script
        with self._lock:
            self.requests.append(request)
            self.open += 1
        return [script] if isinstance(script, str) else list(script)

    def _end(self) -> None:
        with self._lock:
            self.open -= 1

    def _token_ids(self, text: str) -> list[int]:
        """One token per character."""
        return [ord(char) for char in text]


class _Steps:
    """The steps of one scripted answer, shared by the synchronous and the asynchronous source."""

    def __init__(self, core: _ScriptedCore, request: Request) -> None:
        self._core = core
        self._steps: Iterable[Any] = iter([*core._begin(request), None])
        self._deadline = Deadline(request.options.timeout)
        self._prompt_tokens = len(request.prompt or "")
        self._n_tokens = 0
        self.closed = threading.Event()

    def step(self) -> Piece | float | None:
        """The next piece, a pause in seconds, or None at the end."""
        self._deadline.wake()
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, (int, float)):
                return float(step)
            self._deadline.piece_arrived()
            if step is None:
                reason: Any = self._core._finish_reason
                usage = Usage(self._prompt_tokens, self._n_tokens)
                return None if reason is None else Piece(finish_reason=reason, usage=usage)
            self._n_tokens += 1
            return Piece(step, n_tokens=self._n_tokens)
        return None

    def sleeps(self, pause: float) -> Iterator[float]:
        """Yield sleep times in seconds until `pause` has passed or the source is closed.

        Raises:
            TimeoutExceeded: The caller's timeout passed first.
        """
        end = time.monotonic() + pause
        while (pause_left := end - time.monotonic()) > 0 and not self.closed.is_set():
            timeout_left = self._deadline.remaining()
            if timeout_left == 0:
                raise self._deadline.exceeded()
            yield pause_left if timeout_left is None else min(pause_left, timeout_left)

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            self._core._end()


class _Source(_Steps):
    def __next__(self) -> Piece:
        while not self.closed.is_set():
            step = self.step()
            if step is None:
                break
            if isinstance(step, Piece):
                return step
            for seconds in self.sleeps(step):
                self.closed.wait(seconds)
        raise StopIteration


class _AsyncSource(_Steps):
    async def __anext__(self) -> Piece:
        while not self.closed.is_set():
            step = self.step()
            if step is None:
                break
            if isinstance(step, Piece):
                return step
            for seconds in self.sleeps(step):
                await asyncio.sleep(seconds)
        raise StopAsyncIteration


class ScriptedLLM(_ScriptedCore, BaseLLM):
    """A model that answers from a script. The arguments are those of its base class."""

    def _open(self, request: Request) -> _Source:
        return _Source(self, request)

    def _tokenize(self, text: str) -> list[int]:
        return self._token_ids(text)


class AsyncScriptedLLM(_ScriptedCore, AsyncBaseLLM):
    """The asynchronous twin of `ScriptedLLM`."""

    async def _open(self, request: Request) -> _AsyncSource:
        return _AsyncSource(self, request)

    async def _tokenize(self, text: str) -> list[int]:
        return self._token_ids(text)
