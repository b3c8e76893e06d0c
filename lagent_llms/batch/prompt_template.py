"""Fill the columns of a record into a text, or into the texts of messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.request import Input
from ..errors import ConfigError, InvalidArgument, nearest
from ..messages import check_messages

__all__ = ["PromptTemplate"]

#: A column in braces, or a doubled brace.
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class PromptTemplate:
    """A text, or messages as JSON, with columns in braces: ``Translate to French: {text}``.

    A doubled brace stands for a brace. A number, list or object is written as JSON, a date as its text. In
    messages, columns are filled into the contents, so whatever a column holds stays within its content.

    Args:
        source: The text; a JSON list of messages; or ``@FILE``, a file with either.

    Raises:
        ConfigError: The file cannot be read.
        InvalidArgument: A brace is not closed, or the messages are none.
    """

    def __init__(self, source: str) -> None:
        if source.startswith("@"):
            try:
                source = Path(source[1:]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"prompt_template: cannot read {source[1:]}: {error}") from error
        self.source = source
        self._messages = _messages_of(source)
        texts = [source] if self._messages is None else [str(one["content"]) for one in self._messages]
        self.columns = tuple(dict.fromkeys(name for text in texts for name in _columns(text)))

    def check_columns(self, record: Mapping[str, Any], where: str = "the input") -> None:
        """Refuse a record that lacks a column.

        Raises:
            InvalidArgument: It lacks one.
        """
        for name in self.columns:
            if name not in record:
                raise InvalidArgument(
                    f"prompt_template: {where} has no column {name!r}{nearest(name, record)} "
                    f"(columns: {', '.join(map(str, record))})",
                    argument="prompt_template",
                )

    def fill(self, record: Mapping[str, Any], position: int) -> Input:
        """The prompt, or the messages, of a record.

        Raises:
            InvalidArgument: It lacks a column.
        """
        self.check_columns(record, f"row {position}")
        if self._messages is None:
            return _fill(self.source, record)
        return [{**one, "content": _fill(one["content"], record)} for one in self._messages]


def _messages_of(source: str) -> list[Mapping[str, Any]] | None:
    if not source.lstrip().startswith("["):
        return None
    try:
        found = json.loads(source)
    except ValueError:
        return None
    messages = check_messages(found, "prompt_template")
    if any(not isinstance(message.get("content"), str) for message in messages):
        raise InvalidArgument(
            "prompt_template: the content of each message must be text", argument="prompt_template"
        )
    return messages


def _columns(text: str) -> list[str]:
    names = []
    for found in _FIELD.finditer(text):
        if found[0] in "{}" or found[1] == "":
            place = text[found.start() : found.start() + 20]
            raise InvalidArgument(
                f"prompt_template: {place!r}: a column is {{NAME}}; a brace itself is doubled",
                argument="prompt_template",
            )
        if found[1] is not None:
            names.append(found[1].strip())
    return names


def _fill(text: str, record: Mapping[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        item = record[found[1].strip()]
        if isinstance(item, (list, dict, int, float, type(None))):  # bool is an int
            return json.dumps(item, ensure_ascii=False, default=str)
        return str(item)  # text; a date or a decimal of Parquet

    return _FIELD.sub(value, text)
