"""What the commands share at the terminal: progress, streamed text, values of ``--set``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InvalidArgument

__all__ = ["parse_settings", "print_stream", "progress", "read_input"]


@contextmanager
def progress(message: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while something slow runs; nothing at all when stderr is no terminal.

    Yields:
        A function that says what is being done now.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(message) as status:
        yield lambda now: status.update(f"{message}: {now}")


def print_stream(deltas: Iterable[str]) -> str:
    """Print text as it comes, each piece at once, then a newline; returns all of it."""
    parts: list[str] = []
    for delta in deltas:
        parts.append(delta)
        sys.stdout.write(delta)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
    return "".join(parts)


def read_input(argument: str | None) -> str | None:
    """The text to work on: the argument; with none of it or ``-``, a piped stdin; None at a terminal."""
    if argument not in (None, "-"):
        return argument
    if sys.stdin is None or (sys.stdin.isatty() and argument is None):
        return None
    return sys.stdin.read().strip()


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """``key=value`` pairs of ``--set``, the values read as YAML reads them.

    Raises:
        InvalidArgument: A pair without a ``=``.
    """
    import yaml

    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"--set {pair!r}: expected key=value", argument="--set")
        settings[key.strip().replace("-", "_")] = yaml.safe_load(value)
    return settings
