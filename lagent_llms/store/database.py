"""An SQLite file that threads, processes and their forked children share."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, InvalidArgument

__all__ = ["Database", "Schema", "check_not_writable_by_others", "checked_path"]

#: Seconds to try again to put a new file into WAL mode, for which SQLite does not wait itself.
_WAL_TIMEOUT = 10.0
#: Permission of others to write.
_OTHERS_WRITE = stat.S_IWOTH


@dataclass(frozen=True)
class Schema:
    """The tables of a file.

    Attributes:
        what: What the file is, for messages ("cache").
        application_id: SQLite's field for the kind of the file.
        version: Number of the schema; files of other versions are refused.
        statements: They make the tables.
    """

    what: str
    application_id: int
    version: int
    statements: tuple[str, ...]


class Database:
    """One connection to a file, used by one thread at a time and opened when it is used.

    It is closed before a fork, so that no child inherits it (SQLite forbids that), and opened anew if the
    file was deleted or replaced.

    Args:
        path: The file; it is made, readable by its owner only, if it does not exist.
        schema: Its tables.
        wait: Most seconds to wait for a lock of another process.
        read_only: Refuse to make or change the file.
    """

    def __init__(self, path: Path, schema: Schema, *, wait: float, read_only: bool = False) -> None:
        self.path, self._schema, self._wait = path, schema, wait
        self._read_only = read_only
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        with _forking:
            _databases.add(self)

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread alone.

        Raises:
            ConfigError: The file is no such database, or others may write it.
            sqlite3.Error: The database failed.
            OSError: The file cannot be made or read.
        """
        with self._lock:
            if self._connection is not None and self._was_replaced():
                self._close()
            if self._connection is None:
                self._connection = self._open()
            try:
                yield self._connection
            except sqlite3.Error:
                self._close()  # which rolls back; the next use finds out whether the file can be used
                raise

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _was_replaced(self) -> bool:
        assert self._file is not None
        try:
            return not os.path.samestat(os.stat(self.path), self._file)
        except OSError:
            return True

    def _open(self) -> sqlite3.Connection:
        if not self._read_only:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_file(self.path)
        self._file = os.stat(self.path)
        if not stat.S_ISREG(self._file.st_mode):
            raise ConfigError(f"the {self._schema.what} {self.path} is no regular file")
        check_not_writable_by_others(self._schema.what, self.path)
        with contextlib.ExitStack() as on_failure:
            connection = self._connected()
            on_failure.callback(connection.close)
            try:
                self._prepare(connection)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):  # locked, or the disk failed
                    raise
                raise ConfigError(
                    f"the {self._schema.what} {self.path} is damaged, or no such file"
                ) from error
            on_failure.pop_all()
        return connection

    def _connected(self) -> sqlite3.Connection:
        if not self._read_only:
            return sqlite3.connect(
                self.path, timeout=self._wait, isolation_level=None, check_same_thread=False
            )
        # A file in WAL mode needs files beside it; where they cannot be made, nothing can change it either.
        name = self.path.absolute().as_uri()
        still = not os.access(self.path.parent, os.W_OK) and not os.path.exists(f"{self.path}-wal")
        return sqlite3.connect(
            f"{name}?mode=ro{'&immutable=1' if still else ''}",
            uri=True,
            timeout=self._wait,
            isolation_level=None,
            check_same_thread=False,
        )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        schema = self._schema
        if not self._read_only and _is_empty(connection):
            _use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                # Another process may have made the tables meanwhile.
                if _is_empty(connection):
                    for statement in schema.statements:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA application_id = {schema.application_id}")
                    connection.execute(f"PRAGMA user_version = {schema.version}")
            finally:
                connection.execute("COMMIT")
        application_id, version = self._found(connection)
        if application_id != schema.application_id:
            raise ConfigError(f"{self.path} is no {schema.what} of lagent_llms")
        if version != schema.version:
            raise ConfigError(
                f"the {schema.what} {self.path} has version {version} of its tables, this lagent_llms uses "
                f"version {schema.version}; give another file"
            )
        connection.execute("PRAGMA synchronous = NORMAL")

    @staticmethod
    def _found(connection: sqlite3.Connection) -> tuple[int, int]:
        ((application_id,),) = connection.execute("PRAGMA application_id")
        ((version,),) = connection.execute("PRAGMA user_version")
        return application_id, version


def checked_path(argument: str, value: object, allowed: str) -> Path:
    """The path that the caller has given.

    Raises:
        InvalidArgument: It is none; `allowed` says what is.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidArgument(f"{argument}={value!r}: allowed is {allowed}", argument=argument)
    return Path(os.fsdecode(value)).expanduser()


def check_not_writable_by_others(what: str, path: Path) -> None:
    """Refuse a file or folder that every user of the machine may write.

    Raises:
        ConfigError: They may.
    """
    if os.name == "posix" and os.stat(path).st_mode & _OTHERS_WRITE:
        raise ConfigError(f"the {what} {path} can be written by every user: chmod o-w it, or give another")


def _make_file(path: Path) -> None:
    """Make a file that only its owner can read, unless it exists.

    The lock keeps this process from using the file until it is closed here: that drops the locks which the
    process has on it.
    """
    with _making, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _use_wal(connection: sqlite3.Connection) -> None:
    end = time.monotonic() + _WAL_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # another process does the same
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def _is_empty(connection: sqlite3.Connection) -> bool:
    ((count,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    return bool(count == 0)


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_making = threading.Lock()
#: Held during a fork, when no database may be opened.
_forking = threading.Lock()
_locked: list[Database] = []


def _before_fork() -> None:
    _forking.acquire()
    for database in list(_databases):
        database._lock.acquire()
        _locked.append(database)
        database._close()


def _after_fork() -> None:
    while _locked:
        _locked.pop()._lock.release()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
