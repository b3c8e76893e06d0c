"""A lock for what finalizers change as well: they must not wait for it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["DeferredLock"]


class DeferredLock:
    """A lock, held by ``with``, and changes that are made by whoever holds it next.

    A finalizer runs wherever its thread happens to be, also where that thread holds this very lock: waiting
    for it would last for ever. What a finalizer may have to change is handed over with `defer`.
    """

    __slots__ = ("_changes", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changes: deque[Callable[[], None]] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._make_changes()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def defer(self, change: Callable[[], None]) -> None:
        """Make `change` now if nobody holds the lock, else before it is held again. Does not wait."""
        self._changes.append(change)
        if self._lock.acquire(blocking=False):
            try:
                self._make_changes()
            finally:
                self._lock.release()

    def _make_changes(self) -> None:
        while self._changes:
            self._changes.popleft()()
