"""The running generations of a page: progress, end, and Stop. Independent of gradio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ...errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    RateLimited,
    SessionOutOfLimit,
    TimeoutExceeded,
)
from .source import TextUpdate, TextUpdates

if TYPE_CHECKING:
    from ..limits import Limits

__all__ = ["MAX_CONCURRENT", "MAX_QUEUE", "Generations", "Progress", "error_note", "history_pairs"]

#: Most generations at once per page; further requests wait in gradio's queue.
MAX_CONCURRENT = 32
#: Most requests in that queue, running ones included.
MAX_QUEUE = 64
#: Longest time that a generation on a server runs without a page that reads it, in seconds.
_UNREAD_SECONDS = 10.0
#: Seconds between two updates of the page. Each update sends the whole text, and a browser shows no more.
_UPDATE_INTERVAL = 0.06

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """The state of a generation.

    Attributes:
        text: The text so far.
        n_tokens: The tokens so far; None if the backend does not count them.
        state: 'running', or its end: 'done', 'stopped' by Stop, 'cleared' by Clear, 'failed'.
        error: The error message for the user of the page; '' unless the generation failed.
    """

    text: str = ""
    n_tokens: int | None = 0
    state: Literal["running", "done", "stopped", "cleared", "failed"] = "running"
    error: str = ""


class _Generation:
    """One running generation, read at the page's update interval."""

    def __init__(self) -> None:
        self.stopped = False
        self.cleared = False
        self.began = time.monotonic()
        self.last: TextUpdate = ("", 0)
        self._updates: Iterator[tuple[str, int]] | AsyncIterator[TextUpdate] = iter(())
        self._last_shown = 0.0

    def begin(self, start: Callable[[], TextUpdates]) -> None:
        """Start the generation."""
        updates = start()
        self._updates = updates if isinstance(updates, AsyncIterator) else iter(updates)
        if self.stopped:
            self.stop()

    async def advance(self, threads: ThreadPoolExecutor) -> bool:
        """Read until an update is due, in a thread if reading blocks; False at the end."""
        if not isinstance(self._updates, AsyncIterator):
            return await asyncio.get_running_loop().run_in_executor(threads, self._read, self._updates)
        async for update in self._updates:
            if self._is_due(update):
                return True
        return False

    def _read(self, updates: Iterator[tuple[str, int]]) -> bool:
        for update in updates:
            if self._is_due(update):
                return True
            if self.stopped:
                self.stop()
                break
        return False

    def _is_due(self, update: TextUpdate) -> bool:
        """Keep `update`; True if the interval since the last shown one has passed."""
        self.last = update
        if self.stopped or time.monotonic() - self._last_shown < _UPDATE_INTERVAL:
            return False
        self._last_shown = time.monotonic()
        return True

    def stop(self) -> None:
        """Stop the generation; callable from any thread."""
        self.stopped = True
        with contextlib.suppress(ValueError):  # a plain generator that is executing: `_read` closes it
            getattr(self._updates, "close", lambda: None)()


class Generations:
    """The running generations of one page, at most one per visitor."""

    def __init__(self) -> None:
        self._running: dict[str, _Generation] = {}
        self._draining = False
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT, "page-generation")
        self._limits: Limits | None = None
        self._readers: Counter[str] = Counter()

    def limit(self, limits: Limits) -> None:
        """Count the generations in `limits`, and stop those that no page reads; for pages on a server."""
        self._limits = limits

    @contextlib.contextmanager
    def read_by(self, visitor: str) -> Iterator[None]:
        """The visitor's page reads its updates inside; at the end, its generation is stopped."""
        self._readers[visitor] += 1
        try:
            yield
        finally:
            self._readers[visitor] -= 1
            if not self._readers[visitor]:
                del self._readers[visitor]
                self.stop(visitor)

    async def stream(self, visitor: str, start: Callable[[], TextUpdates]) -> AsyncIterator[Progress]:
        """Run a generation and yield its progress; the last item holds how it ended.

        Leaving the loop early stops the generation. A visitor's earlier generation is stopped first.

        Args:
            visitor: The visitor's id: one open page.
            start: Starts the generation.
        """
        if self._draining:
            yield Progress(state="failed", error="The server is shutting down and takes no new requests.")
            return
        self.stop(visitor)
        generation = self._running[visitor] = _Generation()
        counted = contextlib.nullcontext() if self._limits is None else self._limits.count(1)
        try:
            with counted:
                async for progress in self._progress(generation, visitor, start):
                    yield progress
        except Exception as error:  # noqa: BLE001  (the page shows a note for any error)
            yield Progress(*generation.last, "cleared" if generation.cleared else "failed", error_note(error))
        finally:
            generation.stop()
            if self._running.get(visitor) is generation:
                del self._running[visitor]

    async def _progress(
        self, generation: _Generation, visitor: str, start: Callable[[], TextUpdates]
    ) -> AsyncIterator[Progress]:
        await asyncio.get_running_loop().run_in_executor(self._threads, generation.begin, start)
        while await generation.advance(self._threads):
            yield Progress(*generation.last)
            if self._is_unread(generation, visitor):
                generation.stop()
        end: Literal["done", "stopped", "cleared"] = "stopped" if generation.stopped else "done"
        yield Progress(*generation.last, "cleared" if generation.cleared else end)

    def _is_unread(self, generation: _Generation, visitor: str) -> bool:
        if self._limits is None or visitor in self._readers:
            return False
        return time.monotonic() - generation.began > _UNREAD_SECONDS

    def stop(self, visitor: str, *, clear: bool = False) -> None:
        """Stop the visitor's generation, if one is running.

        Args:
            visitor: The visitor's id.
            clear: True discards the text generated so far.
        """
        if (generation := self._running.get(visitor)) is not None:
            generation.cleared = generation.cleared or clear
            generation.stop()

    def drain(self) -> None:
        """Refuse new generations; return when the running ones have ended."""
        self._draining = True
        while any(not generation.stopped for generation in list(self._running.values())):
            time.sleep(0.05)
        self._threads.shutdown()


def error_note(error: Exception) -> str:
    """The message for the user of the page; internal errors are logged and not shown."""
    if isinstance(error, (ContextLengthExceeded, SessionOutOfLimit)):
        return "This is too long for the model. Shorten the text, or clear and begin anew."
    if isinstance(error, RateLimited):
        return "The server is busy. Try again in a moment."
    if isinstance(error, TimeoutExceeded):
        return "The model took too long. Try again."
    if isinstance(error, InvalidArgument):
        return f"Invalid input: {error}."
    _log.error(
        "a page's generation failed: %s", error, exc_info=None if isinstance(error, LLMError) else error
    )
    return "The server could not answer. Try again; if the error persists, see the server's log."


def history_pairs(messages: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Convert a chatbot's messages to (prompt, answer) pairs, without prompts that have no answer."""
    pairs, prompt = [], None
    for message in messages:
        if message["role"] == "user":
            prompt = _text(message["content"])
        elif prompt is not None:
            pairs.append((prompt, _text(message["content"])))
            prompt = None
    return pairs


def _text(content: Any) -> str:
    """The text of a gradio message, whose content is a string or a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))
