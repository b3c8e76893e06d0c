"""The end of an engine that runs in a thread of its own."""

from __future__ import annotations

import threading

from .. import forks
from ..errors import InvalidArgument, RateLimited

__all__ = ["EngineThread", "check_max_queue", "check_queue"]


def check_max_queue(value: object) -> int | None:
    """Return `value` if it is None or an integer of 0 or more.

    Raises:
        InvalidArgument: It is neither.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise InvalidArgument(
        f"max_queue={value!r}: allowed is None or an integer of 0 or more", argument="max_queue"
    )


def check_queue(waiting: int, max_queue: int | None) -> None:
    """Refuse one more request than may wait.

    Raises:
        RateLimited: `waiting` is `max_queue` or more.
    """
    if max_queue is not None and waiting >= max_queue:
        raise RateLimited(
            f"the engine's queue is full: allowed are {max_queue} waiting requests (max_queue)",
            status_code=503,
            code="queue_full",
            retry_after=1,
        )


class EngineThread:
    """An engine whose thread waits for requests on `_changed` and ends once `_closing` is set."""

    _changed: threading.Condition
    _closing: bool
    _generation: int  # of `forks`, when the engine was made
    _thread: threading.Thread

    def close(self) -> None:
        """Stop the engine after the current token; unfinished requests get an error event. Idempotent."""
        if self._generation != forks.generation:  # forked: the engine runs on in the parent
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=60)
