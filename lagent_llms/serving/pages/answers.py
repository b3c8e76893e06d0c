"""The answers of a page: their progress, their end, and the reader's Stop. Knows nothing of gradio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    RateLimited,
    SessionOutOfLimit,
    TimeoutExceeded,
)
from .source import Pair, Pairs

__all__ = ["AT_ONCE", "Answers", "Progress", "in_words", "pairs_of"]

#: Most answers that one page's visitors get at once; more wait in line.
AT_ONCE = 32
#: Seconds between two looks at a growing answer. A browser draws no more, and each look sends the whole text.
_PACE = 0.06

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """An answer as far as it has come.

    Attributes:
        text: The text so far.
        n_tokens: Its tokens; None when they are not counted.
        state: 'running'; or how it ended: 'done', 'stopped' by the reader, 'cleared' by the reader, 'failed'.
        error: What a failed answer says to the reader.
    """

    text: str = ""
    n_tokens: int | None = 0
    state: Literal["running", "done", "stopped", "cleared", "failed"] = "running"
    error: str = ""


class _Running:
    """One answer being read, at the pace of a page."""

    def __init__(self) -> None:
        self.stopped = False
        self.cleared = False
        self.last: Pair = ("", 0)
        self._pairs: Iterator[tuple[str, int]] | AsyncIterator[Pair] = iter(())
        self._told = 0.0

    def begin(self, start: Callable[[], Pairs]) -> None:
        """Start the generation."""
        pairs = start()
        self._pairs = pairs if isinstance(pairs, AsyncIterator) else iter(pairs)
        if self.stopped:
            self.stop()

    async def advance(self, threads: ThreadPoolExecutor) -> bool:
        """Read on until there is something to show; False at the end. What blocks is read in a thread."""
        if not isinstance(self._pairs, AsyncIterator):
            return await asyncio.get_running_loop().run_in_executor(threads, self._step, self._pairs)
        async for pair in self._pairs:
            if self._is_due(pair):
                return True
        return False

    def _step(self, pairs: Iterator[tuple[str, int]]) -> bool:
        for pair in pairs:
            if self._is_due(pair):
                return True
            if self.stopped:
                self.stop()
                break
        return False

    def _is_due(self, pair: Pair) -> bool:
        """Whether it is time to show what has come."""
        self.last = pair
        if self.stopped or time.monotonic() - self._told < _PACE:
            return False
        self._told = time.monotonic()
        return True

    def stop(self) -> None:
        """Stop the generation, from any thread."""
        self.stopped = True
        with contextlib.suppress(ValueError):  # a plain generator that is just running: `_step` closes it
            getattr(self._pairs, "close", lambda: None)()


class Answers:
    """The answers that are running for a page's visitors, at most one for each."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._ending = False
        self._threads = ThreadPoolExecutor(AT_ONCE, "page-answer")

    async def stream(self, visitor: str, start: Callable[[], Pairs]) -> AsyncIterator[Progress]:
        """The answer that `start` begins, as it grows; the last progress tells how it ended.

        Leaving it early stops the generation.

        Args:
            visitor: Who asks: one open page.
            start: Begins the generation.
        """
        if self._ending:
            yield Progress(state="failed", error="The server is ending; it takes no more questions.")
            return
        self.stop(visitor)
        running = self._running[visitor] = _Running()
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, running.begin, start)
            while await running.advance(self._threads):
                yield Progress(*running.last)
            end: Literal["done", "stopped", "cleared"] = "stopped" if running.stopped else "done"
            yield Progress(*running.last, "cleared" if running.cleared else end)
        except Exception as error:  # noqa: BLE001  (told to the reader, whatever it is)
            yield Progress(*running.last, "cleared" if running.cleared else "failed", in_words(error))
        finally:
            running.stop()
            if self._running.get(visitor) is running:
                del self._running[visitor]

    def stop(self, visitor: str, *, clear: bool = False) -> None:
        """Stop the visitor's answer, if one is running.

        Args:
            visitor: Who asked.
            clear: Whether its text is not wanted any more, either.
        """
        if (running := self._running.get(visitor)) is not None:
            running.cleared = running.cleared or clear
            running.stop()

    def drain(self) -> None:
        """Begin no more answers; return when the running ones have ended."""
        self._ending = True
        while any(not running.stopped for running in list(self._running.values())):
            time.sleep(0.05)
        self._threads.shutdown()


def in_words(error: Exception) -> str:
    """What a reader of the page is told about `error`. What is not theirs to know goes into the log."""
    if isinstance(error, (ContextLengthExceeded, SessionOutOfLimit)):
        return "This is too long for the model. Shorten the text, or clear and begin anew."
    if isinstance(error, RateLimited):
        return "The server is busy. Try again in a moment."
    if isinstance(error, TimeoutExceeded):
        return "The model took too long. Try again."
    if isinstance(error, InvalidArgument):
        return f"This cannot be used: {error}."
    _log.error("a page's answer failed: %s", error, exc_info=None if isinstance(error, LLMError) else error)
    return "The server could not answer. Try again; if it goes on, its log tells why."


def pairs_of(messages: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The (prompt, answer) pairs of a chatbot's messages; a prompt without an answer is left out."""
    pairs, asked = [], None
    for message in messages:
        if message["role"] == "user":
            asked = _text(message["content"])
        elif asked is not None:
            pairs.append((asked, _text(message["content"])))
            asked = None
    return pairs


def _text(content: Any) -> str:
    """The text of a message, which gradio writes as a string or as parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
