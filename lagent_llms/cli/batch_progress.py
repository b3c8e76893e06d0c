"""How far a batch is: a bar at a terminal, a line every 30 seconds elsewhere, both on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..batch.results import BatchSummary

__all__ = ["Progress", "RecentRates", "counted", "figures", "showing_progress"]

#: Seconds between two lines, and of the time that rates are of.
_INTERVAL = 30.0


class Progress(Protocol):
    """Shows the state of a batch."""

    def __call__(self, summary: BatchSummary, in_flight: int, total: int | None) -> None:
        """Show `summary`, the number of calls in flight, and the number of rows if it is known."""


@contextlib.contextmanager
def showing_progress() -> Iterator[Progress]:
    """Show the progress of a batch while the block runs."""
    if sys.stderr is None:
        yield lambda summary, in_flight, total: None
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        yield _Lines()


class RecentRates:
    """Rows and tokens a second during the last 30 seconds.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int]] = deque()
        self.rows = self.tokens = 0.0

    def update(self, summary: BatchSummary) -> None:
        """Take the figures of now into account."""
        now = self._clock()
        self._seen.append((now, summary.rows, summary.completion_tokens))
        while now - self._seen[0][0] > _INTERVAL and len(self._seen) > 2:
            self._seen.popleft()
        began, rows, tokens = self._seen[0]
        if now > began:
            self.rows = (summary.rows - rows) / (now - began)
            self.tokens = (summary.completion_tokens - tokens) / (now - began)

    def left(self, summary: BatchSummary, total: int | None) -> str:
        """The time left, '' if it is not known."""
        if total is None or not self.rows:
            return ""
        seconds = round(max(0, total - summary.rows) / self.rows)
        return f", about {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"

    def line(self, summary: BatchSummary, in_flight: int, total: int | None) -> str:
        """The figures of now in one line."""
        return (
            f"{summary.failed} failed, {summary.retried} retried, {in_flight} in flight, "
            f"{self.rows:.1f} rows/s, {self.tokens:.0f} tokens/s{self.left(summary, total)}"
        )


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + _INTERVAL
        self._rates = RecentRates()

    def __call__(self, summary: BatchSummary, in_flight: int, total: int | None) -> None:
        self._rates.update(summary)
        if (now := time.monotonic()) >= self._next:
            self._next = now + _INTERVAL
            of = "" if total is None else f" of {total}"
            line = f"{summary.rows}{of} rows, {self._rates.line(summary, in_flight, total)}"
            print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    columns: list[Any] = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[figures]}")]
    rates = RecentRates()
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("rows", total=None, figures="")

        def show(summary: BatchSummary, in_flight: int, total: int | None) -> None:
            rates.update(summary)
            line = rates.line(summary, in_flight, total)
            bar.update(task, total=total, completed=summary.rows, figures=line)

        yield show


def counted(number: int, noun: str) -> str:
    """A number and what it counts: '1 row', '2 rows'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def figures(summary: BatchSummary) -> str:
    """The figures of a whole run in one line."""
    seconds = max(summary.seconds, 1e-3)
    rows, tokens = (summary.rows - summary.earlier) / seconds, summary.completion_tokens / seconds
    failed, retried = counted(summary.failed, "row"), counted(summary.retried, "row")
    return f"{failed} failed, {retried} retried, {rows:.1f} rows/s, {tokens:.0f} tokens/s"
