"""The workers of a batch, threads or tasks: started as more prompts may be in flight."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from ..schema import Completion
from .admission import Admission
from .gates import AsyncGate, Gate
from .streams import Stream

__all__ = ["Crew", "complete_all", "start_thread"]

_W = TypeVar("_W")


def start_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


class Crew(Generic[_W]):
    """The workers at one gate.

    Args:
        gate: The gate, at which every worker enters a place for each prompt.
        start: Starts a worker.
        most: Most workers.

    Attributes:
        workers: The workers, in the order of their start.
    """

    def __init__(self, gate: Gate | AsyncGate, start: Callable[[], _W], most: int) -> None:
        self.workers: list[_W] = []
        self._gate, self._start, self._most = gate, start, most
        self._lock = threading.Lock()

    def grow(self) -> None:
        """Start workers for all places, and one that waits for the next place."""
        if len(self.workers) >= self._most or not self._gate.wants(len(self.workers)):
            return
        with self._lock:
            while len(self.workers) < self._most and self._gate.wants(len(self.workers)):
                try:
                    self.workers.append(self._start())
                except RuntimeError:  # the system allows no further thread
                    if not self.workers:
                        raise
                    self._most = len(self.workers)

    def close(self) -> None:
        """Start no further worker."""
        with self._lock:
            self._most = 0


def complete_all(
    admission: Admission, calls: Sequence[Any], open_stream: Callable[..., Stream]
) -> list[Completion | Exception]:
    """Complete `calls` in threads; return the completion or the error of each.

    An exception in the caller's thread (Ctrl-C) stops all streams first.

    Args:
        admission: Decides how many run at once.
        calls: The arguments of `open_stream` for each call.
        open_stream: Opens the stream of a call; its last argument is the call's place.
    """
    gate = Gate(admission)
    remaining = deque(enumerate(calls))
    outcomes: dict[int, Completion | BaseException] = {}
    running: set[Stream] = set()
    interrupted = threading.Event()

    def outcome(call: Any) -> Completion | BaseException:
        try:
            with gate.place() as place:
                crew.grow()
                stream = open_stream(*call, place)
                running.add(stream)
                try:
                    if interrupted.is_set():
                        stream.close()
                    return stream.drain()
                finally:
                    running.discard(stream)
        except BaseException as error:  # noqa: BLE001  (returned, or raised in the caller's thread)
            return error

    def work() -> None:
        while remaining:
            try:
                index, call = remaining.popleft()
            except IndexError:  # another thread took the last one
                return
            outcomes[index] = outcome(call)

    crew = Crew(gate, lambda: start_thread(work, "prompt"), min(admission.most, len(calls)))
    try:
        crew.grow()
        _join(crew)
    except BaseException:  # KeyboardInterrupt too: every generation is stopped, then it is raised again
        interrupted.set()
        remaining.clear()
        gate.close()
        for stream in [*running]:
            stream.close()
        _join(crew)
        raise
    found: list[Completion | Exception] = []
    for index in range(len(calls)):
        if isinstance(one := outcomes[index], BaseException) and not isinstance(one, Exception):
            raise one
        found.append(one)
    return found


def _join(crew: Crew[threading.Thread]) -> None:
    """Wait for all threads, those too that are started meanwhile."""
    for thread in crew.workers:
        thread.join()
