"""Standard output of the commands: without control sequences at a terminal, and failures in one sentence."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from ..control_sequences import ControlFilter

__all__ = ["OutputError", "discard", "emit", "emitting", "visible"]


class OutputError(Exception):
    """An output is closed, full, or cannot encode a text; the message is one sentence."""


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
