"""A timer on a thread that expires with a `Deadline`, for reads that take no timeout; one thread for all."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from .deadline import Deadline

__all__ = ["ThreadDeadlineTimer"]


class ThreadDeadlineTimer:
    """Calls `on_expired` when `deadline` has passed, as `DeadlineTimer` does on an event loop.

    Args:
        deadline: The deadline to watch.
        on_expired: Called at most once, on the watching thread; it must not block.

    Attributes:
        expired: Whether `on_expired` was called.
    """

    def __init__(self, deadline: Deadline, on_expired: Callable[[], object]) -> None:
        self.expired = False
        self._deadline = deadline
        self._on_expired: Callable[[], object] | None = on_expired
        self._set()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._on_expired is not None:
            self._on_expired = None
            _watch.drop()

    @property
    def stopped(self) -> bool:
        """Whether the timer was cancelled or has expired."""
        return self._on_expired is None

    def check(self) -> None:
        """Call `on_expired` if the deadline has passed, else schedule the next check.

        Called by the watching thread.
        """
        on_expired = self._on_expired
        if on_expired is None:
            return
        if self._deadline.remaining() == 0:
            self.expired = True
            self._on_expired = None
            on_expired()
        else:
            self._set()

    def _set(self) -> None:
        wait = self._deadline.next_check()
        if wait is not None:
            _watch.add(time.monotonic() + wait, self)


#: Number of stopped timers below which they are not removed.
_FEW = 100


class _Watch:
    """The thread that checks timers when they are due; it ends when none is left.

    Stopped timers are removed together once they are half of all: to find a single one would cost more.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._timers: list[tuple[float, int, ThreadDeadlineTimer]] = []
        self._numbers = itertools.count()
        self._stopped = 0  # approximate number of stopped timers in the heap
        self._running = False

    def add(self, when: float, timer: ThreadDeadlineTimer) -> None:
        with self._changed:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            elif self._timers[0][2] is timer:
                self._changed.notify()

    def drop(self) -> None:
        """Count a timer that was stopped."""
        with self._changed:
            self._stopped += 1
            if self._too_many_stopped():  # the thread removes them: this may be a finalizer within `add`
                self._changed.notify()

    def _too_many_stopped(self) -> bool:
        return self._stopped > _FEW and self._stopped * 2 > len(self._timers)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._timers and (wait := self._timers[0][0] - time.monotonic()) > 0:
                    self._changed.wait(wait)
                    if self._too_many_stopped():
                        self._stopped = 0
                        self._timers = [entry for entry in self._timers if not entry[2].stopped]
                        heapq.heapify(self._timers)
                if not self._timers:
                    self._running = False
                    return
                timer = heapq.heappop(self._timers)[2]
                self._stopped -= timer.stopped
            timer.check()


_watch = _Watch()


def _after_fork_in_child() -> None:
    """Start without timers in a forked child, which has neither the thread nor the calls it watched."""
    global _watch
    _watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
