"""One batch job: which row is next, which results are to be stored, when it ends. Pure; the drivers execute.

A row is handed out by `next_row` and comes back by `finish` (or `fail`, which ends the job); its result is
taken by `take`, stored by the driver and counted by `stored`. The number of rows on that way is bounded, so
memory stays flat.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from ..errors import AuthenticationError, InvalidArgument, LLMError
from ..schema import Completion
from .output import BatchOutput
from .results import BatchResult, BatchSummary
from .rows import Row

__all__ = ["Job", "ends_job", "exceeds", "most_failures"]

#: Least number of rows that may be on their way.
_WINDOW = 1000
#: Most known rows that one `next_row` skips, so that they do not hold up an event loop.
_MOST_SKIPPED = 20
_UNAUTHORIZED = 401


def most_failures(given: int | float | str | None) -> tuple[float, bool] | None:
    """The limit of failures: a number, and whether it is a part of the rows; None without a limit.

    Raises:
        InvalidArgument: It is neither an integer of 0 or more nor a percentage such as '1%'.
    """
    if given is None:
        return None
    text = str(given).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1
    if isinstance(given, bool) or not 0 <= value < float("inf") or (text[-1:] != "%" and value % 1):
        raise InvalidArgument(
            f"max_failures={given!r}: allowed is a number of rows, or a percentage such as '1%'",
            argument="max_failures",
        )
    return (value / 100, True) if text.endswith("%") else (value, False)


def exceeds(limit: tuple[float, bool] | None, failed: int, rows: int) -> bool:
    """Whether more rows have failed than the `most_failures` allow; a percentage counts from 100 rows on."""
    if limit is None:
        return False
    most, is_part = limit
    return (rows >= 100 and failed > most * rows) if is_part else failed > most


def ends_job(error: BaseException) -> bool:
    """Whether an error is not the row's own. Refused credentials: every further row would fail as well."""
    refused = isinstance(error, AuthenticationError) and error.status_code == _UNAUTHORIZED
    return refused or not isinstance(error, LLMError)


class Job:
    """The rows of one run on their way. Safe to use from several threads.

    Args:
        rows: The input.
        output: Where results are stored; None stores them nowhere.
        concurrency: Most calls at once.
        ordered: Results are taken in the order of the input.
        limit: The `most_failures`; when more rows fail, the job ends. A percentage counts from 100 rows of
            this run on.

    Attributes:
        summary: The figures so far.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        output: BatchOutput | None,
        *,
        concurrency: int,
        ordered: bool = False,
        limit: tuple[float, bool] | None = None,
    ) -> None:
        self._rows = rows
        self._output = output
        self._ordered = ordered
        self._limit = limit
        self._window = max(_WINDOW, 4 * concurrency)
        self._reading = threading.Lock()  # held while the input makes the caller wait
        self._lock = threading.Lock()  # guards all that follows
        self._room = threading.Condition(self._lock)
        self._handed_out = 0  # also the number of the next row, for `ordered`
        self._taken = self._stored = self._failed = 0
        self._finished: dict[int, BatchResult | None] = {}  # None: it has no result, and the job ends
        self._numbers: dict[int, int] = {}  # of running rows, by position
        self._at_end = False
        self._error: BaseException | None = None
        self._began = time.monotonic()
        done, failed = (0, 0) if output is None else (output.done, output.failed)
        repaired = 0 if output is None else output.repaired
        self.summary = BatchSummary(rows=done, failed=failed, earlier=done, repaired=repaired)

    def next_row(self) -> Row | None:
        """The next row to run. None: at the end, without room, or (try again) after many known rows."""
        with self._reading:
            for _ in range(_MOST_SKIPPED):
                if self._at_end or not self.has_room:
                    return None
                try:
                    row = next(self._rows, None)
                    known = (
                        row is not None and self._output is not None and not self._output.claim(row.identity)
                    )
                except BaseException as error:  # noqa: BLE001  (raised by `check`, in the caller's thread)
                    self._end(error)
                    return None
                if row is None:
                    self._at_end = True
                    return None
                if known:
                    continue
                with self._lock:
                    if self._at_end:  # stopped meanwhile
                        return None
                    number = self._handed_out
                    self._handed_out += 1
                    if row.error is None:
                        self._numbers[row.position] = number
                        return row
                    self._finished[number] = BatchResult(row, error=row.error)
        return None

    @property
    def at_end(self) -> bool:
        """Whether no further row will be handed out."""
        return self._at_end

    @property
    def has_room(self) -> bool:
        """Whether another row may be handed out before results are stored."""
        return self._handed_out - self._stored < self._window

    def wait_for_room(self) -> None:
        """Block until `has_room` or `at_end`."""
        with self._room:
            self._room.wait_for(lambda: self._at_end or self.has_room)

    def finish(self, row: Row, outcome: Completion | LLMError, seconds: float, attempts: int = 1) -> None:
        """Note the result of a row; an error that `ends_job` does that."""
        if isinstance(outcome, LLMError) and ends_job(outcome):
            self.fail(row, outcome)
            return
        completion, error = (None, outcome) if isinstance(outcome, LLMError) else (outcome, None)
        with self._lock:
            self._finished[self._numbers.pop(row.position)] = BatchResult(
                row, completion, error, seconds, attempts
            )

    def fail(self, row: Row, error: BaseException) -> None:
        """End the job with an error that is not the row's: it gets no result, and runs again another time."""
        with self._lock:
            self._finished[self._numbers.pop(row.position)] = None
        self._end(error)

    def take(self) -> list[BatchResult]:
        """The results that can be stored now."""
        with self._lock:
            if not self._ordered:
                found, self._finished = [*self._finished.values()], {}
            else:
                found = []
                while self._taken + len(found) in self._finished:
                    found.append(self._finished.pop(self._taken + len(found)))
            self._taken += len(found)
            results = [result for result in found if result is not None]
            self._stored += len(found) - len(results)
            return results

    def stored(self, results: list[BatchResult]) -> None:
        """Count results that are stored."""
        summary = self.summary
        failed = sum(result.error is not None for result in results)
        with self._lock:
            self._stored += len(results)
            self._failed += failed
            for result in results:
                summary.add(result)
            summary.seconds = time.monotonic() - self._began
            if self._output is not None:
                summary.repeated = self._output.repeated
            self._room.notify_all()
        if exceeds(self._limit, self._failed, self._stored):
            self._end(f"{self._failed} of {self._stored} rows failed, more than max_failures allows")

    def stop(self, why: str) -> None:
        """Hand out no further rows."""
        if not self.complete:
            self._end(why)

    def _end(self, why: str | BaseException) -> None:
        with self._lock:
            self._at_end = True
            if isinstance(why, BaseException):
                self._error = self._error or why
            self.summary.stopped = self.summary.stopped or str(why) or type(why).__name__
            self._room.notify_all()

    @property
    def running(self) -> int:
        """Number of rows that are handed out and have no result yet."""
        return len(self._numbers)

    @property
    def waiting(self) -> int:
        """Number of results that are not taken yet."""
        return len(self._finished)

    @property
    def complete(self) -> bool:
        """Whether every row that was handed out is stored, and no further one will be."""
        return self._at_end and self._stored == self._handed_out

    def check(self) -> None:
        """Raise the error that ended the job, once everything else is stored."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
