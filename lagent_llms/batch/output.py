"""The output of a batch job: a file of rows with checksums, appended to, that survives any interruption.

A row counts if its line is whole and the checksum is right, so nothing else has to be stored: the file is the
state of the job.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from .. import forks
from ..errors import ConfigError
from .files import lock, open_to_append, sync_folder, write_all
from .identities import Identity, Known
from .lines import StoredRow, has_checksum, read_line
from .shards import read_shards, remove_shards, shards_folder

__all__ = ["BatchOutput", "OutputFailed"]

#: The beginning of a row.
_START = b'{"id":'
_MOST_READ = 1 << 20
#: Opening a FIFO does not wait for its reader.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class OutputFailed(OSError):
    """The output cannot be written any more: the disk is full, or it failed."""


class _Found(NamedTuple):
    line: bytes
    row: StoredRow | None  # None if its checksum is wrong


class BatchOutput:
    """The file of a job, locked for this process, and the rows it has.

    Args:
        path: The file; it is made if it does not exist.
        retry_errors: Drop the rows that are errors, so that they run again.

    Attributes:
        done: Number of rows that are stored.
        failed: Number of those that are errors.
        repaired: Bytes of broken rows that were removed when it was opened (after a power cut).

    Raises:
        ConfigError: Another process has the file, it cannot be written, or it is no output of a batch job.
    """

    def __init__(self, path: str | os.PathLike[str], *, retry_errors: bool = False) -> None:
        self.path = Path(path)
        self._target = os.path.realpath(path)  # what is replaced, if the path is a symbolic link
        self.done = self.failed = self.repaired = 0
        self._writing = threading.Lock()
        self._file = self._open()
        _opened.add(self)
        self._known = Known()
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.close)
            self._size = self._recover(retry_errors=retry_errors)
            for row in self._merge_shards(retry_errors=retry_errors):
                self.done += 1
                self.failed += row.failed
            on_failure.pop_all()

    def claim(self, row: Identity) -> bool:
        """Whether a row of the input must be run: it is not stored, and was not claimed before.

        Raises:
            ConfigError: The file has an answer to another content of this row.
        """
        return self._known.claim(row)

    @property
    def repeated(self) -> int:
        """Number of rows that were claimed more than once."""
        return self._known.repeated

    def append(self, lines: Sequence[bytes]) -> None:
        """Store rows: once this returns, they survive a power cut.

        Raises:
            OutputFailed: They are not stored, or maybe not; the file is as before, as far as it can be.
        """
        data = b"".join(lines)
        with self._writing:
            file = self._file.fileno()
            try:
                write_all(file, data)
                os.fsync(file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(file, self._size)
                raise self._failed(error) from error
            self._size += len(data)

    def merge_shards(self) -> None:
        """Store the rows that the writers of this run have left in shards; see `lagent_llms.batch.shards`.

        Raises:
            OutputFailed: They cannot be written; the shards stay.
        """
        for _ in self._merge_shards():
            pass

    def _merge_shards(self, *, retry_errors: bool = False) -> Iterator[StoredRow]:
        """Append each row of a shard that is not stored yet, then remove the shards; yield these rows."""
        folder = shards_folder(self._target)
        lines: list[bytes] = []
        size = 0
        for line, row in read_shards(folder):
            if (retry_errors and row.failed) or not self._known.store(row.identity):
                continue
            lines.append(line)
            size += len(line)
            if size > _MOST_READ:
                self.append(lines)
                lines, size = [], 0
            yield row
        if lines:
            self.append(lines)
        remove_shards(folder)

    def close(self) -> None:
        """Close the file, which unlocks it, once a write that runs has ended."""
        with self._writing:
            self._file.close()
        self._known.close()

    def _failed(self, error: OSError) -> OutputFailed:
        return OutputFailed(error.errno, f"cannot write the output {self.path}: {error.strerror}")

    def _open(self) -> FileIO:
        while True:
            with contextlib.ExitStack() as unless_ours:
                try:
                    file = unless_ours.enter_context(
                        open_to_append(self._target, os.O_CREAT | _NONBLOCK, 0o666)
                    )
                    found = os.fstat(file.fileno())
                    if not stat.S_ISREG(found.st_mode):
                        raise ConfigError(
                            f"the output {self.path} is no regular file: no job could continue it"
                        )
                    lock(file.fileno())
                    # Another process may have replaced the file meanwhile.
                    if os.path.exists(self._target) and os.path.samestat(found, os.stat(self._target)):
                        sync_folder(self._target)
                        unless_ours.pop_all()
                        return file
                except BlockingIOError as error:
                    raise ConfigError(
                        f"another batch, in this or another process, writes the output {self.path}"
                    ) from error
                except OSError as error:
                    raise ConfigError(f"cannot write the output {self.path}: {error.strerror}") from error

    def _recover(self, *, retry_errors: bool) -> int:
        """Read the rows; remove what is broken, and errors with `retry_errors`. Return the size in bytes."""
        size = kept = 0
        drops = False
        for found in self._read():
            size += len(found.line)
            if found.row is None:
                self.repaired += len(found.line)
            elif not (retry_errors and found.row.failed):
                self._known.add(found.row.identity)
                self.done += 1
                self.failed += found.row.failed
                kept += len(found.line)
                drops = drops or kept != size
        if kept == size:
            return size
        try:
            if drops:
                self._rewrite(retry_errors=retry_errors)
            else:  # only the end is broken, as after a kill
                os.ftruncate(self._file.fileno(), kept)
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        return kept

    def _read(self) -> Iterator[_Found]:
        """Read the lines from the first one.

        Raises:
            ConfigError: A line is whole, but no row of a batch job.
        """
        with open(self._target, "rb", buffering=_MOST_READ) as lines:
            for number, line in enumerate(lines, 1):
                row = read_line(line)
                if row is None and not has_checksum(line):
                    self._check_broken(number, line)
                yield _Found(line, row)

    def _check_broken(self, number: int, line: bytes) -> None:
        """Refuse a line that an interrupted job cannot have written: the file is not the output of a job."""
        whole = line.endswith(b"\n") and b"\0" not in line
        if whole or not (number > 1 or line.startswith((_START, b"\0")) or _START.startswith(line)):
            raise ConfigError(
                f"{self.path}, line {number}: this is no output of a batch job, whose rows end with a "
                "checksum; give another file"
            )

    def _rewrite(self, *, retry_errors: bool) -> None:
        """Replace the file by one with the rows to keep, at once."""
        temporary = self._target + ".tmp"
        new = open_to_append(temporary, os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            lock(new.fileno())
            kept = bytearray()
            for line, row in self._read():
                if row is not None and not (retry_errors and row.failed):
                    kept += line
                    if len(kept) > _MOST_READ:
                        write_all(new.fileno(), kept)
                        kept = bytearray()
            write_all(new.fileno(), kept)
            os.chmod(temporary, stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
            os.fsync(new.fileno())
            os.replace(temporary, self._target)
            sync_folder(self._target)
        except BaseException:  # Ctrl-C too: no half-written copy stays; the error is raised again
            new.close()
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._file.close()
        self._file = new


_opened: weakref.WeakSet[BatchOutput] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Close the files of the parent, whose locks would outlive it here."""
    for output in _opened:
        forks.close_inherited(output._file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
