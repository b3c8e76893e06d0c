"""A deadline that an event loop watches: one timer for a whole answer, not one for each wait."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from .deadline import Deadline

__all__ = ["DeadlineTimer", "expire"]


class DeadlineTimer:
    """Calls `on_expired` once `deadline` is over. A piece that arrives only moves the deadline, at no cost.

    Args:
        deadline: What to watch.
        on_expired: Called at most once, on `loop`.
        loop: The event loop that runs now.

    Attributes:
        expired: Whether it was called.
    """

    def __init__(
        self, deadline: Deadline, on_expired: Callable[[], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.expired = False
        self._deadline = deadline
        self._on_expired = on_expired
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._set()

    def stop(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        wait = self._deadline.next_look()
        if wait is not None:
            self._timer = self._loop.call_later(wait, self._check)

    def _check(self) -> None:
        if self._deadline.remaining() == 0:
            self.expired = True
            self._on_expired()
        else:
            self._set()


def expire(scope: Any) -> None:
    """End a running `timeout_after` block: it raises `asyncio.TimeoutError` at the next step of the loop."""
    now = asyncio.get_running_loop().time()
    if sys.version_info >= (3, 11):
        scope.reschedule(now)
    else:
        scope.update(now)
