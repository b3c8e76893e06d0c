"""What both drivers of a `Job` share: the output, the figures, the beginning and the end."""

from __future__ import annotations

import time
from typing import Any

from .. import forks
from ..core.admission import Admission
from ..errors import LLMError
from ..schema import Completion
from .job import Job
from .output import BatchOutput
from .results import BatchResult, BatchSummary, Encoder
from .rows import Row

__all__ = ["MANY", "JobRun", "Outcome"]

#: Seconds between two writes of the output: each waits for the disk.
_WRITE_INTERVAL = 0.5
#: Number of results that are written without waiting for that.
MANY = 500

#: What a call ended with, and the number of its attempts.
Outcome = tuple[Completion | BaseException, int]


class JobRun:
    """A job with its output; the base of both drivers.

    Args:
        llm: The backend.
        job: The job.
        output: Where results are stored, None for nowhere.
        encode: Makes the line of a result.
        admission: Decides how many calls run at once.
    """

    def __init__(
        self, llm: Any, job: Job, output: BatchOutput | None, encode: Encoder, admission: Admission
    ) -> None:
        self._llm = llm
        self._job = job
        self._output = output
        self._encode = encode
        self._model = str(
            getattr(llm, "model_name", None) or getattr(llm, "path", None) or type(llm).__name__
        )
        self._admission = admission
        self._written = float("-inf")  # time of the last write
        self._generation = forks.generation
        self._results: Any = None  # a weak reference to the iterator

    @property
    def summary(self) -> BatchSummary:
        """The figures so far."""
        return self._job.summary

    @property
    def running(self) -> int:
        """Number of rows that have begun: in flight, or waiting for a place at the server or for a retry."""
        return self._job.running

    @property
    def in_flight(self) -> int:
        """Number of calls in flight."""
        return self._admission.in_flight

    def stop(self, why: str = "stopped") -> None:
        """Begin no further rows; those that run are finished and stored. Any thread may call this."""
        self._job.stop(why)

    def _begin(self) -> None:
        forks.check(self._generation, "this batch was made", "make one in this process, on another output")
        if self._results is not None:
            raise LLMError("a batch can be iterated only once; run_batch makes another, which continues it")

    def _pause(self) -> float:
        """Seconds to collect more results before the next write."""
        if self._output is None:
            return 0.0
        return max(0.0, self._written + _WRITE_INTERVAL - time.monotonic())

    def _store(self, results: list[BatchResult]) -> None:
        if self._output is not None:
            self._output.append([self._encode(result, self._model) for result in results])
            self._written = time.monotonic()
        self._job.stored(results)

    def _note(self, row: Row, outcome: Outcome, began: float) -> None:
        """Note what a call ended with, and its attempts. An error that is not the row's ends the job."""
        found, attempts = outcome
        if isinstance(found, (Completion, LLMError)) and not (
            isinstance(found, LLMError) and self._llm.closed
        ):
            self._job.finish(row, found, time.monotonic() - began, attempts)
        else:
            self._job.fail(row, found)

    def _close_output(self) -> None:
        if self._output is not None and self._generation == forks.generation:
            self._output.close()
