"""A deadline that a thread watches, for reads that take no timeout of their own: one thread for all."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable

from ..deadline import Deadline

__all__ = ["ThreadAlarm"]


class ThreadAlarm:
    """Calls `ring` once `deadline` is over, as `Alarm` does in an event loop.

    Args:
        deadline: What to watch.
        ring: Called at most once, in a thread of its own; it must not wait.

    Attributes:
        rang: Whether it was.
    """

    def __init__(self, deadline: Deadline, ring: Callable[[], object]) -> None:
        self.rang = False
        self._deadline = deadline
        self._ring: Callable[[], object] | None = ring
        self._set()

    def stop(self) -> None:
        """Watch no longer."""
        if self._ring is not None:
            self._ring = None
            _watch.drop()

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._ring is None

    def look(self) -> None:
        """Ring if it is time, else be looked at again; called by the watching thread."""
        ring = self._ring
        if ring is None:
            return
        if self._deadline.remaining() == 0:
            self.rang = True
            self._ring = None
            ring()
        else:
            self._set()

    def _set(self) -> None:
        wait = self._deadline.next_look()
        if wait is not None:
            _watch.add(time.monotonic() + wait, self)


#: So many stopped alarms are kept without a thought.
_FEW = 100


class _Watch:
    """The thread that looks at alarms in time; it ends when there are none left.

    Alarms that were stopped stay until they are half of all: to find one costs more than to forget many.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._alarms: list[tuple[float, int, ThreadAlarm]] = []
        self._numbers = itertools.count()
        self._stopped = 0  # about as many of the alarms here
        self._running = False

    def add(self, when: float, alarm: ThreadAlarm) -> None:
        with self._changed:
            heapq.heappush(self._alarms, (when, next(self._numbers), alarm))
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="deadlines", daemon=True).start()
            elif self._alarms[0][2] is alarm:
                self._changed.notify()

    def drop(self) -> None:
        """One of the alarms was stopped."""
        with self._changed:
            self._stopped += 1
            if self._too_many_stopped():  # for the thread: this may be a finalizer in the midst of `add`
                self._changed.notify()

    def _too_many_stopped(self) -> bool:
        return self._stopped > _FEW and self._stopped * 2 > len(self._alarms)

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._alarms and (wait := self._alarms[0][0] - time.monotonic()) > 0:
                    self._changed.wait(wait)
                    if self._too_many_stopped():
                        self._stopped = 0
                        self._alarms = [entry for entry in self._alarms if not entry[2].stopped]
                        heapq.heapify(self._alarms)
                if not self._alarms:
                    self._running = False
                    return
                alarm = heapq.heappop(self._alarms)[2]
                self._stopped -= alarm.stopped
            alarm.look()


_watch = _Watch()


def _begin_anew() -> None:
    """In a fork: the thread is not there, nor are the calls it watched."""
    global _watch
    _watch = _Watch()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
