"""The wait for a child server: what is shown meanwhile, and when to give up."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from .process import Child

__all__ = ["Startup"]

_LOOK_EVERY = 0.2


class Startup:
    """The wait for `child` to be ready; the caller looks whether it is, and sleeps in between.

    ::

        with Startup(child, "the server", timeout=600) as startup:
            while not ready():
                time.sleep(startup.pause())

    Args:
        child: The process.
        name: What it is, for messages.
        timeout: Most seconds it may take.
        say: Told how long it has been, and the last line of the log; None shows that at the terminal, and
            nothing if standard error is none.
    """

    def __init__(
        self, child: Child, name: str, *, timeout: float, say: Callable[[str], None] | None = None
    ) -> None:
        self._child, self._name, self._timeout = child, name, timeout
        self._begun = time.monotonic()
        self._line = _TerminalLine(sys.stderr) if say is None else None
        self._say = say if self._line is None else self._line.show

    def pause(self) -> float:
        """Seconds until the next look.

        Raises:
            ServerStartError: The process has ended, or its time is up.
        """
        if (ended := self._child.ended()) is not None:
            raise self._child.failure(f"{self._name} {ended} before it was ready")
        elapsed = time.monotonic() - self._begun
        if elapsed > self._timeout:
            raise self._child.failure(f"{self._name} was not ready after {self._timeout:g} s")
        if self._say is not None:
            self._say(f"{self._name} is starting, {elapsed:.0f} s: {self._child.last_line}")
        return min(_LOOK_EVERY, max(0.01, self._timeout - elapsed))

    def __enter__(self) -> Startup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line is not None:
            self._line.clear()


class _TerminalLine:
    """One line at a terminal that is written over and over; nothing where there is no terminal."""

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
