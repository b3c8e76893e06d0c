"""Helpers of the commands: progress display, streamed output, input, and option values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..config_file import parse_value
from ..control_sequences import ControlFilter
from ..errors import InvalidArgument
from .output import emit, visible

__all__ = ["kept", "named_by_option", "parse_settings", "print_stream", "progress", "read_input"]


@contextmanager
def progress(message: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner on stderr; nothing if stderr is not a terminal.

    Args:
        message: What is running, such as "loading the model".

    Yields:
        A function that shows the current step.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status(message) as status:
        yield lambda step: status.update(f"{message}: {visible(step, sys.stderr)}")


def print_stream(deltas: Iterable[str]) -> None:
    """Print each piece of text at once, then a newline."""
    shown = ControlFilter().feed if sys.stdout is not None and sys.stdout.isatty() else str
    for delta in deltas:
        emit(shown(delta))
    emit("\n")


def read_input(argument: str | None) -> str | None:
    """Return `argument`; stdin if it is ``-`` or missing; None if it is missing and there is no piped stdin.

    Raises:
        InvalidArgument: stdin is needed and closed, or is no text.
    """
    if argument not in (None, "-"):
        return argument
    if argument is None and (sys.stdin is None or sys.stdin.isatty()):
        return None
    if sys.stdin is None:
        raise InvalidArgument("the prompt is missing: stdin is closed", argument="prompt")
    try:
        return sys.stdin.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"the prompt cannot be read from stdin: {error}", argument="prompt") from error


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse the ``key=value`` pairs of ``--set``; values are YAML.

    Raises:
        InvalidArgument: A pair has no ``=`` or no key, or its value is not YAML.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"--set {pair}: expected key=value", argument="--set")
        try:
            settings[key.strip().replace("-", "_")] = parse_value(value)
        except ValueError as error:
            raise InvalidArgument(f"--set {pair}: the value is not YAML", argument="--set") from error
    return settings


def kept(cache: str | None, journal: str | None, *, content: bool) -> dict[str, Any]:
    """The parameters of a backend for ``--cache``, ``--journal`` and ``--no-content``.

    Raises:
        InvalidArgument: ``--no-content`` is given without ``--journal``.
    """
    if journal is None and not content:
        raise InvalidArgument("--no-content needs --journal FILE", argument="--no-content")
    given = {"cache": cache, "journal": None if journal is None else {"path": journal, "content": content}}
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def named_by_option(options: Mapping[str, str]) -> Iterator[None]:
    """Name the command-line option instead of the parameter in an `InvalidArgument`.

    Args:
        options: Parameter name to option, such as ``{"stop_words": "--stop"}``.
    """
    try:
        yield
    except InvalidArgument as error:
        option = options.get(error.argument)
        if option is None:
            raise
        message = str(error).replace(error.argument, option, 1)
        raise InvalidArgument(message, argument=error.argument) from error
