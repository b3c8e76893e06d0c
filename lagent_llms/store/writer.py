"""Write entries in a thread of its own, so that calls do not wait for a disk."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from .database import Database

__all__ = ["Writer"]

T = TypeVar("T")

_log = logging.getLogger("lagent_llms.store")

#: Most entries of one transaction, and most that wait for one; more are lost.
_MOST_AT_ONCE, _MOST_WAITING = 500, 20_000
#: Most seconds to wait at the end of the process.
_LAST_WAIT = 10.0


class Writer(Generic[T]):
    """Writes what waits in one transaction, as soon as the one before has ended.

    An entry that cannot be written is counted and logged; no call fails for it. In a forked child nothing
    waits: the parent writes its own entries.

    Args:
        database: Where to write.
        insert: Writes an entry; a transaction is open.
        then: Called in the same transaction after the entries.
        written: Called with entries that are written, or lost.
        reading: Another connection to the file, closed with the first one.

    Attributes:
        lost: Number of entries that could not be written.
    """

    def __init__(
        self,
        database: Database,
        insert: Callable[[sqlite3.Connection, T], None],
        then: Callable[[sqlite3.Connection], None] | None = None,
        written: Callable[[Sequence[T]], None] | None = None,
        reading: Database | None = None,
    ) -> None:
        self.lost = 0
        self._database, self._insert, self._then = database, insert, then
        self._written, self._reading = written, reading
        self._failing = False
        self.forget()
        _writers.add(self)

    def forget(self) -> None:
        """Begin anew in a forked child."""
        self._queue: queue.SimpleQueue[T | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start the thread if it does not run yet: `put` may be called where that is not possible."""
        if self._thread is not None:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, args=(self._queue,), name="store", daemon=True)
                thread.start()
                self._thread = thread
                _wait_at_exit()

    def put(self, entry: T) -> bool:
        """Write an entry soon; False if too many wait. Never blocks, and may be called from a finalizer."""
        if self._queue.qsize() >= _MOST_WAITING:
            self._lose(1, "the disk is too slow")
            return False
        self._queue.put(entry)
        return True

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all entries are written (or lost); False if that takes longer than `timeout` seconds."""
        if self._queue.empty() and self._thread is None:
            return True
        written = threading.Event()
        self._queue.put(written)
        self.start()  # afterwards, since a thread that is about to end looks once more whether anything waits
        return written.wait(timeout)

    def close(self) -> None:
        """Wait until all entries are written, and close the file; a later entry opens it again."""
        self.flush()
        self._close()

    def _close(self) -> None:
        self._database.close()
        if self._reading is not None:
            self._reading.close()

    def stop(self) -> None:
        """End the thread once everything is written. Does not wait."""
        self._queue.put(None)

    def _run(self, waiting: queue.SimpleQueue[T | threading.Event | None]) -> None:
        stopped = False
        while True:
            stopped = self._write_next(waiting) or stopped
            if stopped:
                with self._starting:
                    self._close()
                    ended, self._thread = (
                        self._thread,
                        None,
                    )  # before it looks: what comes now starts a thread
                    if waiting.empty():
                        return
                    self._thread = ended

    def _write_next(self, waiting: queue.SimpleQueue[T | threading.Event | None]) -> bool:
        """Wait for entries and write them; return whether the writer was stopped."""
        stopped = False
        entries: list[T] = []
        flushed: list[threading.Event] = []
        item = waiting.get()
        while True:
            if item is None:
                stopped = True
            elif isinstance(item, threading.Event):
                flushed.append(item)
            else:
                entries.append(item)
            if len(entries) >= _MOST_AT_ONCE or waiting.empty():
                break
            item = waiting.get()
        if entries:
            self._write(entries)
            if self._written is not None:
                self._written(entries)
        for event in flushed:
            event.set()
        return stopped

    def _write(self, entries: Sequence[T]) -> None:
        bad = 0
        try:
            with self._database.use() as connection:
                connection.execute("BEGIN IMMEDIATE")
                for entry in entries:
                    try:
                        self._insert(connection, entry)
                    except (ValueError, TypeError, RecursionError) as error:  # a text that is no Unicode
                        bad += 1
                        reason = str(error)
                if self._then is not None:
                    self._then(connection)
                connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  (the disk, the file; the thread goes on)
            self._lose(len(entries), str(error))
            return
        self._failing = self._failing and bool(bad)
        if bad:
            self._lose(bad, reason)

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        if not self._failing:
            self._failing = True
            _log.warning(
                "%s: %d entries are lost, maybe further ones: %s", self._database.path, count, reason
            )


_writers: weakref.WeakSet[Writer[Any]] = weakref.WeakSet()


def _wait_at_exit() -> None:
    """Let the end of a child process of multiprocessing wait as well, which runs no functions of `atexit`."""
    if (util := sys.modules.get("multiprocessing.util")) is not None:
        util.Finalize(None, _flush_all, exitpriority=0)


def _flush_all() -> None:
    for writer in list(_writers):
        if writer.flush(_LAST_WAIT):
            writer._close()


def _after_fork_in_child() -> None:
    for writer in list(_writers):
        writer.forget()


atexit.register(_flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
