"""Standard output of the commands: without control sequences at a terminal, and failures in one sentence."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["ControlFilter", "OutputError", "discard", "emit", "emitting", "visible"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class OutputError(Exception):
    """Standard output is closed, full, or cannot encode a text; the message is one sentence."""


class ControlFilter:
    """Removes the control sequences of terminals from text that arrives in pieces.

    Whole sequences are removed (colours, cursor movements, window titles, the clipboard: CSI, OSC, DCS and
    others, in 7 and in 8 bits), and all single control characters except newline and tab. A sequence without
    its end is removed up to the end of its line.
    """

    def __init__(self) -> None:
        self._state = "text"

    def feed(self, text: str) -> str:
        """Take the next piece of text, and return what of it can be shown."""
        if self._state == "text" and not _CONTROL.search(text):
            return text
        return "".join(filter(self._shown, text))

    def _shown(self, char: str) -> bool:
        """Take the next character; True if it is text."""
        state, self._state = self._state, "text"
        if char in "\n\x18\x1a":  # they end every sequence
            return char == "\n"
        if char == "\x1b":
            self._state = "escape"
        elif char == "\x9b":
            self._state = "parameters"
        elif char in "\x90\x98\x9d\x9e\x9f":
            self._state = "string"
        elif state == "string":
            if char not in "\x07\x9c":
                self._state = "string"
        elif state == "escape" and char == "[":
            self._state = "parameters"
        elif state == "escape" and char in "]PX^_":
            self._state = "string"
        elif state in ("escape", "intermediates") and "\x20" <= char <= "\x7e":
            self._state = "intermediates" if char <= "\x2f" else "text"
        elif state == "parameters" and "\x20" <= char <= "\x7e":
            self._state = "parameters" if char <= "\x3f" else "text"
        else:
            return _CONTROL.match(char) is None
        return False


def visible(text: str, stream: TextIO | None) -> str:
    """`text` as it may be written to `stream`: without control sequences if that is a terminal."""
    return ControlFilter().feed(text) if stream is not None and stream.isatty() else text


@contextlib.contextmanager
def emitting() -> Iterator[None]:
    """Write to standard output inside; it is flushed at the end.

    Raises:
        OutputError: It is closed or full, or cannot encode a text.
        SystemExit: Its reader has exited, as in ``| head``; the status is that of SIGPIPE.
    """
    if sys.stdout is None:
        raise OutputError("stdout is closed")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard()
        raise SystemExit(141) from None
    except UnicodeEncodeError as error:
        discard()
        raise OutputError(
            f"stdout cannot write {error.object[error.start]!a}: its encoding is {sys.stdout.encoding}; "
            "set PYTHONIOENCODING=utf-8 to write UTF-8"
        ) from error
    except OSError as error:
        discard()
        raise OutputError(f"cannot write to stdout: {error.strerror or error}") from error


def emit(text: str) -> None:
    """Write `text` to standard output, at once; raises as `emitting` does."""
    with emitting():
        sys.stdout.write(text)


def discard() -> None:
    """Drop what standard output still holds: the interpreter would fail on it again when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
