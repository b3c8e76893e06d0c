"""Tensors in Triton's wire format: name, datatype, shape and the bytes of the values. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ServerError

__all__ = ["Tensor", "fits", "read_strings", "read_values"]

#: Datatype -> format character of `struct`.
_FORMATS = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP32": "f", "FP64": "d", "FP16": "e",
}  # fmt: skip
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of a request.

    Attributes:
        name: Its name.
        datatype: 'BYTES', 'INT32', 'FP32' …
        shape: Its shape.
        values: Its values in row-major order; strings for BYTES.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any] = field(repr=False)

    def raw(self) -> bytes:
        """Return the values as bytes for the wire."""
        if self.datatype == "BYTES":
            encoded = [value.encode() for value in self.values]
            return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
        return struct.pack(f"<{len(self.values)}{_FORMATS[self.datatype]}", *self.values)


def fits(datatype: str, values: Sequence[Any]) -> bool:
    """Return whether a tensor of `datatype` can hold `values`."""
    if datatype == "BYTES":
        return True
    try:
        struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (KeyError, struct.error, OverflowError):
        return False
    return True


def read_strings(data: bytes) -> list[str]:
    """Return the strings of a BYTES tensor, with U+FFFD for bytes that are not UTF-8.

    Raises:
        ServerError: The data ends within a length.
    """
    strings, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            raise ServerError("the server sent a BYTES tensor that is cut off")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4 + length
        strings.append(data[at - length : at].decode("utf-8", "replace"))
    return strings


def read_values(datatype: str, data: bytes, start: int = 0, stop: int | None = None) -> list[Any]:
    """Return the values of a tensor from `start` to `stop`.

    Raises:
        ServerError: The datatype cannot be read.
    """
    if datatype == "BYTES":
        return list(read_strings(data)[start:stop])
    code = _FORMATS.get(datatype)
    if code is None:
        raise ServerError(f"the server sent a tensor of datatype {datatype}, which cannot be read")
    size = struct.calcsize(f"<{code}")
    stop = len(data) // size if stop is None else min(stop, len(data) // size)
    return [] if stop <= start else list(struct.unpack_from(f"<{stop - start}{code}", data, start * size))
