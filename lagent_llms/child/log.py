"""Keep the last lines of a child server's output."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from io import RawIOBase
from pathlib import Path

from ..control_sequences import ControlFilter

__all__ = ["Log", "redact"]

_LINE_END = re.compile(rb"[\r\n]+")
_LINES, _LINE_LENGTH, _RAW_LENGTH = 100, 2000, 1 << 16


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret replaced by ``***``."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return text


class Log:
    """The last lines of a child's output.

    Args:
        secrets: Texts to replace by ``***``.
        file: File to append the whole output to, None for none. A line that cannot be written (the disk is
            full) is left out: the child would fail if nothing read its output.

    Attributes:
        last_line: The last line, '' if there is none.
        at_end: Called at the end of the output, in the thread that reads it.
    """

    def __init__(self, secrets: Iterable[str], file: str | os.PathLike[str] | None) -> None:
        self._secrets = tuple(secrets)
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._complete = threading.Event()
        # Unbuffered: a fork would write what it finds in a buffer a second time.
        self._file = None if file is None else Path(file).open("ab", buffering=0)  # noqa: SIM115
        self.last_line = ""
        self.at_end: Callable[[], object] = lambda: None

    def follow(self, output: RawIOBase) -> None:
        """Read `output` until the child and all its descendants have exited."""
        rest = b""
        with output, contextlib.suppress(OSError, ValueError):
            while data := output.read(_RAW_LENGTH):
                *lines, rest = _LINE_END.split(rest + data)
                rest = rest[:_RAW_LENGTH]  # bounds a line without end
                for line in lines:
                    self._add(line)
        self._add(rest)
        self._complete.set()
        if self._file is not None:
            self._file.close()
        self.at_end()

    def _add(self, raw: bytes) -> None:
        line = redact(ControlFilter().feed(raw.decode(errors="replace")), self._secrets).rstrip()
        if not line:
            return
        self._lines.append(line[:_LINE_LENGTH])
        self.last_line = line[:_LINE_LENGTH]
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(f"{line}\n".encode())

    def tail(self) -> str:
        """The last lines (at most 100)."""
        return "\n".join(self._lines)

    def wait_complete(self) -> None:
        """Wait until an ended child's output has been read, at most 5 seconds."""
        self._complete.wait(5)
