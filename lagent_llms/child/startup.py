"""Wait until a child server is ready: progress messages, poll interval and timeout."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from .process import Child

__all__ = ["Startup"]

_POLL_INTERVAL = 0.2


class Startup:
    """Progress and timeout of the wait for `child`; the caller polls whether it is ready.

    ::

        with Startup(child, "the server", timeout=600) as startup:
            while not ready():
                time.sleep(startup.poll_delay())

    Args:
        child: The server process.
        name: Name of the server in messages.
        timeout: Longest wait, in seconds.
        on_progress: Called with a message (seconds waited, last line of the log) before each poll; None
            (default) shows it at the terminal if standard error is one.
    """

    def __init__(
        self, child: Child, name: str, *, timeout: float, on_progress: Callable[[str], None] | None = None
    ) -> None:
        self._child, self._name, self._timeout = child, name, timeout
        self._begun = time.monotonic()
        self._line = _TerminalLine(sys.stderr) if on_progress is None else None
        self._on_progress = on_progress if self._line is None else self._line.show

    def poll_delay(self) -> float:
        """Report progress and return the seconds until the next poll.

        Raises:
            ServerStartError: The process has ended, or `timeout` has passed.
        """
        if (ended := self._child.ended()) is not None:
            raise self._child.failure(f"{self._name} {ended} before it was ready")
        elapsed = time.monotonic() - self._begun
        if elapsed > self._timeout:
            raise self._child.failure(f"{self._name} was not ready after {self._timeout:g} s")
        if self._on_progress is not None:
            self._on_progress(f"{self._name} is starting, {elapsed:.0f} s: {self._child.last_line}")
        return min(_POLL_INTERVAL, max(0.01, self._timeout - elapsed))

    def __enter__(self) -> Startup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.clear()


class _TerminalLine:
    """A status line that is rewritten in place; does nothing if the stream is not a terminal."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._shown = ""

    def show(self, text: str) -> None:
        if self._stream is None:
            return
        width = shutil.get_terminal_size().columns - 1
        text = text if len(text) <= width else text[: width - 1] + "…"
        if text != self._shown:
            self._write(f"\r\x1b[K{text}")
            self._shown = text

    def clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = ""

    def _write(self, text: str) -> None:
        assert self._stream is not None
        self._stream.write(text)
        self._stream.flush()
