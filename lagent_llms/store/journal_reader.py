"""Read a journal: its calls, a search in them, and those with a certain input."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError
from .answers import DAMAGED, StoredAnswer, completion_fields, unpack
from .database import Database, checked_path
from .journal import CALLS

__all__ = ["JournalReader", "StoredCall"]

_FIELDS = (
    "id, time, seconds, first_token, backend, model, finish_reason, cached, attempts, prompt_tokens, "
    "completion_tokens, parameters, error, messages, prompt, text, answer"
)


class StoredCall(NamedTuple):
    """One call of a journal; see `Call`. Of a journal without content, only the figures are there.

    Attributes:
        id: Its number in the journal.
        answer: The answer, None without content.
    """

    id: int
    time: float
    seconds: float
    first_token: float | None
    backend: str
    model: str
    finish_reason: str | None
    cached: bool
    attempts: int
    prompt_tokens: int | None
    completion_tokens: int | None
    parameters: Mapping[str, Any]
    error: Mapping[str, Any] | None
    messages: list[Any] | None
    prompt: str | None
    text: str | None
    answer: StoredAnswer | None

    @property
    def status(self) -> str:
        """'stop', 'length', 'tool_calls'; the type of the error; or 'closed' by the caller."""
        if self.finish_reason is not None:
            return self.finish_reason
        return "closed" if self.error is None else str(self.error["type"])

    def as_dict(self) -> dict[str, Any]:
        """The call as values of JSON."""
        found = self._asdict()
        answer = found.pop("answer")
        whole = None if answer is None else answer.completion
        return {**found, "completion": None if whole is None else completion_fields(whole)}


class JournalReader:
    """The calls of a journal, which may be written at the same time.

    Args:
        path: The file.

    Raises:
        ConfigError: There is no such file, or it is no journal.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = checked_path("journal", path, "a file")
        self._database = Database(self.path, CALLS, wait=30.0, read_only=True)
        with self._errors(), self._database.use():
            pass

    def calls(
        self, *, search: str | None = None, failed: bool = False, newest: int | None = None
    ) -> Iterator[StoredCall]:
        """The calls, oldest first.

        Args:
            search: Only calls with this text in their messages, prompt, answer or error.
            failed: Only calls with an error.
            newest: Only the last ones of these, so many.
        """
        where, values = ["id > ?"], []
        if search is not None:
            # A text in JSON has its quotes and line breaks escaped.
            escaped = json.dumps(search, ensure_ascii=False)[1:-1]
            columns = {"messages": escaped, "prompt": search, "text": search, "error": escaped}
            where.append(f"({' OR '.join(f'instr({name}, ?) > 0' for name in columns)})")
            values = list(columns.values())
        if failed:
            where.append("error IS NOT NULL")
        select = f"SELECT {_FIELDS} FROM calls WHERE {' AND '.join(where)}"
        if newest is not None:
            yield from reversed(self._rows(f"{select} ORDER BY id DESC LIMIT ?", 0, *values, newest))
            return
        last = 0
        while rows := self._rows(f"{select} ORDER BY id LIMIT 1000", last, *values):
            last = rows[-1].id
            yield from rows

    def with_input(self, key: bytes) -> list[StoredCall]:
        """The calls with an input, oldest first; see `hash_of_input`."""
        return self._rows(f"SELECT {_FIELDS} FROM calls WHERE input = ? ORDER BY id", key)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _rows(self, statement: str, *values: Any) -> list[StoredCall]:
        with self._errors(), self._database.use() as connection:
            return [self._row(row) for row in connection.execute(statement, values)]

    def _row(self, row: tuple[Any, ...]) -> StoredCall:
        *figures, parameters, error, messages, prompt, text, answer = row
        try:
            contents = (
                msgspec.json.decode(parameters),
                None if error is None else msgspec.json.decode(error),
                None if messages is None else msgspec.json.decode(messages),
                prompt,
                text,
                None if answer is None else unpack(answer),
            )
            return StoredCall._make([*figures, *contents])._replace(cached=bool(figures[7]))
        except (*DAMAGED, TypeError) as failure:
            raise ConfigError(f"the journal {self.path} is damaged at call {row[0]}: {failure}") from failure

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ConfigError(f"there is no journal {self.path}") from error
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the journal {self.path} cannot be read: {error}") from error
