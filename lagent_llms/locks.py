"""A lock that finalizers can use, and forked children; attributes that are made once under such a lock."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, TypeVar

from .forks import importing

__all__ = ["DeferredLock", "locked_cached_property"]

T = TypeVar("T")

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
        self._changes: deque[Callable[[], object]] = deque()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._make_changes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def defer(self, change: Callable[[], object]) -> None:
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


class locked_cached_property(Generic[T]):  # noqa: N801  (a decorator)
    """Decorator of a method that makes an attribute: called at the first use, once if several threads wait.

    `functools.cached_property` has no lock since Python 3.12; before, one that a forked child may find held.
    The lock is `forks.importing`: most of these attributes import modules.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        attributes = vars(instance)
        with importing:
            if self._name not in attributes:
                attributes[self._name] = self._make(instance)
        return attributes[self._name]  # type: ignore[no-any-return]


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
