"""A timer on an event loop that expires with a `Deadline`: one for a whole answer, not one for each wait."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from .deadline import Deadline

__all__ = ["DeadlineTimer", "expire"]


class DeadlineTimer:
    """Calls `on_expired` when `deadline` has passed. A piece that arrives moves the deadline, not the timer.

    Args:
        deadline: The deadline to watch.
        on_expired: Called at most once, on `loop`.
        loop: The running event loop.

    Attributes:
        expired: Whether `on_expired` was called.
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
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _set(self) -> None:
        wait = self._deadline.next_check()
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
    with contextlib.suppress(RuntimeError):  # the block is ending already
        if sys.version_info >= (3, 11):
            scope.reschedule(now)
        else:
            scope.update(now)
