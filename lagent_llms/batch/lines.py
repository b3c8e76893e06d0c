"""One line of the output of a batch: a row as JSON whose last field is the CRC-32 of the line before it."""

from __future__ import annotations

import re
import zlib
from typing import Any

import msgspec

from ..untrusted import DECODE_ERRORS
from .identities import Identity, identity

__all__ = ["StoredRow", "has_checksum", "read_line", "with_checksum"]

_CHECKSUM = re.compile(rb',"crc32":"([0-9a-f]{8})"}\Z')


class StoredRow(msgspec.Struct):
    """What is needed of a row to continue. OpenAI's form has a `custom_id`, made up unless it is `named`."""

    row: int
    input: str
    id: str | int | None = None
    custom_id: str | int | None = None
    named: bool = False
    error: Any = None

    @property
    def failed(self) -> bool:
        """Whether it is an error."""
        return self.error is not None

    @property
    def identity(self) -> Identity:
        """What it is known by."""
        name = self.id if self.custom_id is None else self.custom_id if self.named else None
        return identity(self.row, name, self.input)


def with_checksum(row: bytes) -> bytes:
    """The line of a row.

    Args:
        row: A JSON object that is not empty.
    """
    return b'%s,"crc32":"%08x"}\n' % (row[:-1], zlib.crc32(row[:-1]))


def has_checksum(line: bytes) -> bool:
    """Whether a line ends with a checksum, right or wrong."""
    return _CHECKSUM.search(line.rstrip(b"\n")) is not None


def read_line(line: bytes) -> StoredRow | None:
    """The row of a line, None if the line is not whole or its checksum is wrong."""
    found = _CHECKSUM.search(line[:-1])
    if not line.endswith(b"\n") or found is None or zlib.crc32(line[: found.start()]) != int(found[1], 16):
        return None
    try:
        return msgspec.json.decode(line, type=StoredRow)
    except DECODE_ERRORS:
        return None
