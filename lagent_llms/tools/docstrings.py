"""Read a Google-style docstring: the description, those of the arguments, and that of the result. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

__all__ = ["Docstring", "read_docstring", "split_choices"]

_SECTION = re.compile(r"\s*\b(?:Args|Returns|Raises):")
_ARGS = re.compile(r"\n[ \t]*Args:[ \t]*\n(.*?)\s*(?=\n[ \t]*(?:Returns|Raises|Yields):|\Z)", re.DOTALL)
_RETURNS = re.compile(r"\n[ \t]*Returns:[ \t]*\n\s*(.*?)\s*(?=\n[ \t]*Raises:|\Z)", re.DOTALL)
_NAME = re.compile(r"([ \t]*)\*{0,2}(\w+)(?:[ \t]*\([^()\n]*\))?:[ \t]*(.*)")
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


class Docstring(NamedTuple):
    """The parts of a docstring.

    Attributes:
        description: The text before the sections.
        arguments: Descriptions by name.
        returns: The text of the section 'Returns', None if there is none.
    """

    description: str
    arguments: dict[str, str]
    returns: str | None


def read_docstring(text: str) -> Docstring:
    """Split a docstring, cleaned as `inspect.getdoc` does."""
    text = text.strip()
    section = _SECTION.search(text)
    description = text if section is None else text[: section.start()].strip()
    arguments = _ARGS.search("\n" + text)
    returns = _RETURNS.search("\n" + text)
    return Docstring(
        description,
        _arguments(arguments[1]) if arguments is not None else {},
        returns[1].strip() if returns is not None else None,
    )


def _arguments(block: str) -> dict[str, str]:
    """Descriptions by name; a line that is indented deeper than its argument's name continues it."""
    found: dict[str, list[str]] = {}
    indent, lines = "", []
    for line in filter(str.strip, block.split("\n")):
        match = _NAME.fullmatch(line)
        if match is not None and (not found or not _is_deeper(match[1], indent)):
            indent = match[1]
            lines = found[match[2]] = [match[3]]
        else:
            lines.append(line)
    return {name: " ".join(filter(None, map(str.strip, lines))) for name, lines in found.items()}


def _is_deeper(indent: str, other: str) -> bool:
    return len(indent) > len(other)


def split_choices(description: str) -> tuple[str, list[Any] | None]:
    """Split transformers' form of an enum, ``(choices: ["tea", "coffee"])``, from the end of a text."""
    match = _CHOICES.search(description)
    if match is None:
        return description, None
    try:
        choices = json.loads(match[1])
    except ValueError:
        return description, None
    if not isinstance(choices, list):
        return description, None
    return description[: match.start()].strip(), [
        choice.strip() if isinstance(choice, str) else choice for choice in choices
    ]
