"""Shards: the results of one output, written by many processes, each into a file of its own.

They lie in the folder ``OUTPUT.shards`` and have the lines of the output. A process that dies leaves its
shard; a row that two processes have run is in two of them. `BatchOutput` merges them: every row counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import uuid
from collections.abc import Iterator

from ..errors import ConfigError
from .files import open_to_append, sync_folder, write_all
from .lines import StoredRow, read_line

__all__ = ["ShardWriter", "read_shards", "remove_shards", "shards_folder"]

_ENDING = ".jsonl"
_MOST_READ = 1 << 20


def shards_folder(output: str | os.PathLike[str]) -> str:
    """The folder of an output's shards."""
    return os.path.realpath(output) + ".shards"


class ShardWriter:
    """A shard of this process, for the tasks of one event loop.

    Args:
        folder: The folder of the shards, which exists.

    Raises:
        ConfigError: The shard cannot be made there.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, uuid.uuid4().hex + _ENDING)
        try:
            self._file = open_to_append(path, os.O_CREAT | os.O_EXCL, 0o666)
            sync_folder(path)
        except OSError as error:
            raise ConfigError(
                f"cannot write a shard in {folder} on {platform.node()}: {error.strerror}; the folder of "
                "the output must have the same path on every node"
            ) from error
        self._lines: list[bytes] = []
        self._writing = asyncio.Lock()

    async def append(self, line: bytes) -> None:
        """Store a line; once this returns, it survives a power cut. Lines of several tasks share a write.

        Raises:
            OSError: The disk is full, or it failed.
        """
        self._lines.append(line)
        async with self._writing:
            if self._lines:  # otherwise the write that this task has waited for has stored it
                lines, self._lines = self._lines, []
                await asyncio.to_thread(self._write, b"".join(lines))

    def _write(self, data: bytes) -> None:
        write_all(self._file.fileno(), data)
        os.fsync(self._file.fileno())


def read_shards(folder: str) -> Iterator[tuple[bytes, StoredRow]]:
    """The whole lines of all shards, with their rows; what a killed process began to write is left out."""
    for path in _shards(folder):
        with open(path, "rb", buffering=_MOST_READ) as lines:
            for line in lines:
                if (row := read_line(line)) is not None:
                    yield line, row


def remove_shards(folder: str) -> None:
    """Remove all shards and their folder, once their rows are stored elsewhere.

    A process that still writes, cut off from the driver, loses only results that were counted nowhere.
    """
    for path in _shards(folder):
        os.unlink(path)
    with contextlib.suppress(OSError):  # there is none, or it has other files
        os.rmdir(folder)


def _shards(folder: str) -> list[str]:
    try:
        return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(_ENDING))
    except FileNotFoundError:
        return []
