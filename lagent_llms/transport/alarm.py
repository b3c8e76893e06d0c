"""A deadline that an event loop watches: one timer for a whole answer, not one for each wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..deadline import Deadline

__all__ = ["Alarm"]


class Alarm:
    """Calls `ring` once `deadline` is over. Pieces that arrive only move the deadline, which costs nothing.

    Args:
        deadline: What to watch.
        ring: Called at most once, on the loop that runs now.

    Attributes:
        rang: Whether it was.
    """

    def __init__(self, deadline: Deadline, ring: Callable[[], None]) -> None:
        self.rang = False
        self._deadline = deadline
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._set()

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        wait = self._deadline.next_look()
        if wait is not None:
            self._timer = self._loop.call_later(wait, self._check)

    def _check(self) -> None:
        if self._deadline.remaining() == 0:
            self.rang = True
            self._ring()
        else:
            self._set()
