"""`AnswerCache`: answers of deterministic calls in an SQLite file, by a hash of what they depend on."""

from __future__ import annotations

import logging
import os
import sqlite3
import weakref
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from .. import validators
from ..copying import CopiedByArguments
from ..errors import ConfigError, LLMError
from ..schema import Completion, StreamChunk
from .answers import DAMAGED, Step, StoredAnswer, completion_fields, pack, unpack
from .database import Database, Schema, check_not_writable_by_others, checked_path
from .writer import Writer

__all__ = ["AnswerCache"]

_log = logging.getLogger("lagent_llms.store")

_SCHEMA = Schema(
    "cache",
    application_id=0x6C6C6D43,
    version=1,
    statements=(
        "CREATE TABLE answers (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, answer BLOB NOT NULL)",
    ),
)
#: The name has the version of the tables: other versions do not read it.
_FILE = f"answers-{_SCHEMA.version}.sqlite"
#: Most answers that are deleted at once.
_MOST_DELETED = 1000
_positive = validators.integer("an integer of 1 or more (bytes)", 1)


class _Entry(NamedTuple):
    key: bytes
    chunks: Sequence[StreamChunk]
    completion: Completion


class AnswerCache(CopiedByArguments):
    """Answers in a folder, shared by threads and processes.

    It never fails a call: an answer that cannot be read is asked for again, one that cannot be written is
    lost; both are logged.

    Args:
        path: The folder; it is made, for its owner only, if it does not exist.
        max_bytes: Size of the stored answers above which the oldest ones are deleted.

    Attributes:
        hits: Number of calls that were answered from it.
        misses: Number of calls whose answer it did not have.

    Raises:
        ConfigError: The folder cannot be used, every user may write it, or its file is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 1 << 30) -> None:
        self.path = checked_path("cache", path, "a folder")
        self.hits = self.misses = 0
        most = _positive("max_bytes", max_bytes)
        file = self.path / _FILE
        self._reading = Database(file, _SCHEMA, wait=1.0)
        self._unwritten: dict[bytes, _Entry] = {}
        self._writer: Writer[_Entry] = Writer(
            Database(file, _SCHEMA, wait=30.0),
            _insert,
            partial(_limit, most=most),
            partial(_forget, self._unwritten),
            self._reading,
        )
        weakref.finalize(self, self._writer.stop).atexit = False  # `Writer` writes the rest itself
        try:
            with self._reading.use():
                check_not_writable_by_others("cache", self.path)
            self._reading.close()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the cache {self.path} cannot be used: {error}") from error

    def __repr__(self) -> str:
        return f"AnswerCache({str(self.path)!r})"

    @property
    def lost(self) -> int:
        """Number of answers that could not be written."""
        return self._writer.lost

    def get(self, key: bytes) -> StoredAnswer | None:
        """The answer with this key, None if there is none. May wait for a disk."""
        self._writer.start()
        if (entry := self._unwritten.get(key)) is not None:
            self.hits += 1
            return StoredAnswer(tuple(map(Step.of, entry.chunks)), entry.completion)
        try:
            with self._reading.use() as connection:
                row = connection.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                answer = None if row is None else unpack(row[0])
                if answer is not None and answer.completion is not None:
                    self.hits += 1
                    return answer
                self.misses += 1
        except (OSError, sqlite3.Error, LLMError, TypeError, *DAMAGED) as error:
            self.misses += 1
            _log.warning("%r cannot be read: %s", self, error)
        return None

    def put(self, key: bytes, chunks: Sequence[StreamChunk], completion: Completion) -> None:
        """Write an answer soon; see `Writer.put`."""
        entry = self._unwritten[key] = _Entry(key, chunks, completion)
        if not self._writer.put(entry):
            del self._unwritten[key]

    def flush(self) -> None:
        """Wait until all answers are written."""
        self._writer.flush()

    def close(self) -> None:
        """Wait until all answers are written, and close the file; a later call opens it again."""
        self._writer.close()


def _insert(connection: sqlite3.Connection, entry: _Entry) -> None:
    answer = pack([Step.of(chunk) for chunk in entry.chunks], completion_fields(entry.completion))
    connection.execute("INSERT OR REPLACE INTO answers (key, answer) VALUES (?, ?)", (entry.key, answer))


def _forget(unwritten: dict[bytes, _Entry], entries: Sequence[_Entry]) -> None:
    for entry in entries:
        unwritten.pop(entry.key, None)


def _limit(connection: sqlite3.Connection, *, most: int) -> None:
    """Delete the oldest answers, a tenth at most, if the file has more than `most` bytes in use."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    if (pages - free) * size > most:
        ((first, last),) = connection.execute("SELECT min(id), max(id) FROM answers")
        count = max(1, min(_MOST_DELETED, (last - first) // 10))
        connection.execute("DELETE FROM answers WHERE id < ?", (first + count,))
