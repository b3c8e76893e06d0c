"""The two drivers of a `Job`: with threads on a synchronous backend, with tasks on an asynchronous one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import forks
from ..core.concurrency import Concurrency
from ..core.deadline import timeout_after
from ..core.gates import AsyncGate, Gate
from ..core.streams import Stream
from ..errors import LLMError, StreamInterrupted
from ..schema import Completion
from .job import Job
from .output import BatchOutput
from .results import BatchResult, BatchSummary, Encoder
from .rows import Row

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncBatchRun", "BatchRun"]

#: Seconds between two writes of the output: each waits for the disk.
_WRITE_INTERVAL = 0.5
#: Number of results that are written without waiting for that.
_MANY = 500


class _Run:
    """A job with its output; the base of both drivers.

    Args:
        llm: The backend.
        job: The job.
        output: Where results are stored, None for nowhere.
        encode: Makes the line of a result.
        concurrency: Most calls at once.
    """

    def __init__(
        self, llm: Any, job: Job, output: BatchOutput | None, encode: Encoder, concurrency: int
    ) -> None:
        self._llm = llm
        self._job = job
        self._output = output
        self._encode = encode
        self._model = str(
            getattr(llm, "model_name", None) or getattr(llm, "path", None) or type(llm).__name__
        )
        self._concurrency = concurrency
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
            if self._llm.journal is not None:  # a stored row is in the journal as well
                self._llm.journal.flush()
            self._output.append([self._encode(result, self._model) for result in results])
            self._written = time.monotonic()
        self._job.stored(results)

    def _note(self, row: Row, outcome: Completion | BaseException, began: float) -> None:
        """Note what a call ended with. An error that is not the row's ends the job."""
        if isinstance(outcome, (Completion, LLMError)) and not (
            isinstance(outcome, LLMError) and self._llm.closed
        ):
            self._job.finish(row, outcome, time.monotonic() - began)
        else:
            self._job.fail(row, outcome)

    def _close_output(self) -> None:
        if self._output is not None and self._generation == forks.generation:
            self._output.close()


class BatchRun(_Run, Iterable[BatchResult]):
    """A batch on a synchronous backend: iterate once over its results.

    Leaving the loop stops the calls. After an exception in the loop, Python keeps its iterator as long as the
    traceback: in a notebook, use ``with run_batch(...) as run``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gate = Gate(Concurrency(self._concurrency))
        self._changed, self._enough = threading.Event(), threading.Event()
        self._streams: set[Stream] = set()
        self._interrupted = False

    def __iter__(self) -> Iterator[BatchResult]:
        self._begin()
        results = self._all_results()
        self._results = weakref.ref(results)
        return results

    def close(self) -> None:
        """Stop the calls and free the output; what is stored stays."""
        results = None if self._results is None else self._results()
        if results is not None:
            results.close()
        self._close_output()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all_results(self) -> Generator[BatchResult, None, None]:
        job = self._job
        workers = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(self._concurrency)
        ]
        try:
            for worker in workers:
                worker.start()
            while not job.complete:
                self._changed.wait()
                self._enough.wait(self._pause())
                self._changed.clear()
                self._enough.clear()
                if results := job.take():
                    self._store(results)
                    yield from results
            job.check()
        finally:
            job.stop("interrupted")
            self._interrupted = True
            self._gate.close()
            for stream in [*self._streams]:
                stream.close()
            for worker in workers:
                if worker.ident is not None:
                    worker.join()
            self._close_output()

    def _work(self) -> None:
        job = self._job
        while True:
            row = job.next_row()
            if job.waiting:
                self._changed.set()
            if row is not None:
                began = time.monotonic()
                self._note(row, self._outcome(row), began)
            if job.running == 0 or job.waiting >= _MANY:
                self._enough.set()
            self._changed.set()
            if row is None:
                if job.at_end:
                    return
                job.wait_for_room()

    def _outcome(self, row: Row) -> Completion | BaseException:
        try:
            with self._gate.place() as place:
                stream = self._llm.raising_stream(row.inputs, row.parameters, place)
                self._streams.add(stream)
                try:
                    if self._interrupted:
                        stream.close()
                    for _ in stream:
                        pass
                    return stream.completion or StreamInterrupted("the batch was interrupted")
                finally:
                    self._streams.discard(stream)
        except BaseException as error:  # noqa: BLE001  (of the row, or of the job, which raises it)
            return error


class AsyncBatchRun(_Run, AsyncIterable[BatchResult]):
    """A batch on an asynchronous backend: iterate once over its results.

    Leaving the loop stops the calls soon; ``async with run_batch(...) as run`` waits until they have stopped.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gate = AsyncGate(Concurrency(self._concurrency))
        self._changed, self._enough, self._space = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._ended = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[BatchResult]:
        self._begin()
        results = self._all_results()
        self._results = weakref.ref(results)
        return results

    async def aclose(self) -> None:
        """Stop the calls and free the output; what is stored stays."""
        results = None if self._results is None else self._results()
        if results is not None:
            await results.aclose()
        elif self._results is not None:  # the loop was left, and the event loop closes the iterator soon
            await self._ended.wait()
        self._close_output()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _all_results(self) -> AsyncGenerator[BatchResult, None]:
        job = self._job
        workers = [asyncio.ensure_future(self._work()) for _ in range(self._concurrency)]
        storing: asyncio.Future[None] | None = None
        try:
            while not job.complete:
                await self._changed.wait()
                if (pause := self._pause()) and not self._enough.is_set():
                    with contextlib.suppress(asyncio.TimeoutError):
                        async with timeout_after(pause):
                            await self._enough.wait()
                self._changed.clear()
                self._enough.clear()
                if results := job.take():
                    if self._output is None:
                        self._store(results)
                    else:
                        storing = asyncio.ensure_future(asyncio.to_thread(self._store, results))
                        await asyncio.shield(storing)
                    self._space.set()
                    for result in results:
                        yield result
            job.check()
        finally:
            job.stop("interrupted")
            for worker in workers:
                worker.cancel()
            try:
                await asyncio.gather(*workers, return_exceptions=True)
                if storing is not None and not storing.done():  # what is being stored is counted
                    await asyncio.wait([storing])
            finally:
                self._close_output()
                self._ended.set()

    async def _work(self) -> None:
        job = self._job
        while True:
            self._space.clear()
            row = job.next_row()
            if job.waiting:
                self._changed.set()
            if row is not None:
                began = time.monotonic()
                self._note(row, await self._outcome(row), began)
            if job.running == 0 or job.waiting >= _MANY:
                self._enough.set()
            self._changed.set()
            if row is None:
                if job.at_end:
                    return
                await (asyncio.sleep(0) if job.has_room else self._space.wait())

    async def _outcome(self, row: Row) -> Completion | BaseException:
        try:
            async with self._gate.place() as place:
                stream = self._llm.raising_stream(row.inputs, row.parameters, place)
                async for _ in stream:
                    pass
                return stream.completion or StreamInterrupted("the batch was interrupted")
        except BaseException as error:  # noqa: BLE001  (of the row, or of the job, which raises it)
            return error
