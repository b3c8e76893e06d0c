"""Which rows of a batch are known: by id, else by position. Ten million fit into little memory."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b
from typing import NamedTuple

from ..errors import ConfigError

__all__ = ["Identity", "Known", "content_hash", "identity"]

#: KiB of the table that are kept in memory; the rest is in a temporary file.
_CACHE = 1 << 16
#: States of a row: stored; claimed and not stored; claimed and stored.
_STORED, _RUNNING, _CLAIMED = 0, 1, 2


class Identity(NamedTuple):
    """What a row is known by.

    Attributes:
        key: Hash of the id, or of the position where there is no id.
        content: Hash of the content.
        name: The row, for messages.
    """

    key: int
    content: int
    name: str


def content_hash(content: bytes) -> str:
    """A hash of the content of a row, 16 hexadecimal digits."""
    return blake2b(content, digest_size=8).hexdigest()


def identity(position: int, name: str | int | None, content: str) -> Identity:
    """The identity of a row.

    Args:
        position: Its place in the input, from 0.
        name: Its id, None without one.
        content: The `content_hash`.
    """
    text = f"row {position}" if name is None else f"id {name!r}"
    key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return Identity(_signed(key), _signed(bytes.fromhex(content)), text)


def _signed(digest: bytes) -> int:
    return int.from_bytes(digest, "big", signed=True)


class Known:
    """The rows that are stored or running, in a temporary SQLite database.

    Attributes:
        repeated: Number of rows that were claimed more than once.
    """

    def __init__(self) -> None:
        self.repeated = 0
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            f"PRAGMA cache_size=-{_CACHE}",
            "CREATE TABLE rows (key INTEGER PRIMARY KEY, content INTEGER, claimed INTEGER)",
            "BEGIN",
        ):
            self._database.execute(statement)
        self._execute = self._database.cursor().execute  # a cursor for each statement costs time

    def add(self, row: Identity) -> None:
        """Add a stored row; the later one of two with the same key counts."""
        self._execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (*row[:2], _STORED))

    def claim(self, row: Identity) -> bool:
        """Add a row that begins; return False if it is there already.

        Raises:
            ConfigError: It is there with another content.
        """
        if self._execute("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", (*row[:2], _RUNNING)).rowcount:
            return True
        ((content, claimed),) = self._execute("SELECT content, claimed FROM rows WHERE key = ?", row[:1])
        if claimed:
            self.repeated += 1
        elif content != row.content:
            raise ConfigError(
                f"{row.name}: its content has changed since the output was written; give another output, or "
                "restore the row"
            )
        else:
            self._execute("UPDATE rows SET claimed = ? WHERE key = ?", (_CLAIMED, row.key))
        return False

    def store(self, row: Identity) -> bool:
        """Note that a row is stored now; return False if it was stored before."""
        found = self._execute("SELECT claimed FROM rows WHERE key = ?", row[:1]).fetchone()
        if found is None:
            self._execute("INSERT INTO rows VALUES (?, ?, ?)", (*row[:2], _STORED))
        elif found[0] == _RUNNING:
            self._execute("UPDATE rows SET claimed = ? WHERE key = ?", (_CLAIMED, row.key))
        return found is None or found[0] == _RUNNING

    def close(self) -> None:
        """Delete the database."""
        self._database.close()
