"""A lock that finalizers can use, and forked children."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["DeferredLock"]


_locks: weakref.WeakSet[DeferredLock] = weakref.WeakSet()


class DeferredLock:
    """A lock whose `defer()` never blocks, so finalizers can use it without deadlock.

    A finalizer may interrupt its thread while that thread holds this very lock. It passes its change to
    `defer`; the change runs at once if the lock is free, else when ``with`` acquires the lock next.

    In a forked child it is free: the thread that may have held it is not there.
    """

    __slots__ = ("__weakref__", "_changes", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: deque[Callable[[], None]] = deque()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._make_changes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def defer(self, change: Callable[[], None]) -> None:
        """Run `change` now if the lock is free, else when it is acquired next. Does not block."""
        self._changes.append(change)
        if self._lock.acquire(blocking=False):
            try:
                self._make_changes()
            finally:
                self._lock.release()

    def _make_changes(self) -> None:
        while self._changes:
            self._changes.popleft()()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
