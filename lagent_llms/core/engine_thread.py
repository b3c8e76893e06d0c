"""The end of an engine that runs in a thread of its own."""

from __future__ import annotations

import threading

from .. import forks

__all__ = ["EngineThread"]


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
