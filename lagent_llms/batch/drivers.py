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

from ..core.crew import Crew, start_thread
from ..core.deadline import timeout_after
from ..core.gates import AsyncGate, Gate
from ..core.streams import AsyncStream, Stream
from .job_run import MANY, JobRun, Outcome
from .results import BatchResult
from .rows import Row

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncBatchRun", "BatchRun"]


class BatchRun(JobRun, Iterable[BatchResult]):
    """A batch on a synchronous backend: iterate once over its results.

    Leaving the loop stops the calls. After an exception in the loop, Python keeps its iterator as long as the
    traceback: in a notebook, use ``with run_batch(...) as run``.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gate = Gate(self._admission)
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
        crew = self._crew = Crew(self._gate, lambda: start_thread(self._work, "batch"), self._admission.most)
        try:
            crew.grow()
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
            crew.close()
            for worker in crew.workers:
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
            if job.running == 0 or job.waiting >= MANY:
                self._enough.set()
            self._changed.set()
            if row is None:
                if job.at_end:
                    return
                job.wait_for_room()

    def _outcome(self, row: Row) -> Outcome:
        stream: Stream | None = None
        try:
            with self._gate.place() as place:
                self._crew.grow()
                stream = self._llm.raising_stream(row.inputs, row.parameters, place)
                self._streams.add(stream)
                try:
                    if self._interrupted:
                        stream.close()
                    return stream.drain(), stream.attempts
                finally:
                    self._streams.discard(stream)
        except BaseException as error:  # noqa: BLE001  (of the row, or of the job, which raises it)
            return error, 1 if stream is None else stream.attempts


class AsyncBatchRun(JobRun, AsyncIterable[BatchResult]):
    """A batch on an asynchronous backend: iterate once over its results.

    Leaving the loop stops the calls soon; ``async with run_batch(...) as run`` waits until they have stopped.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gate = AsyncGate(self._admission)
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
        storing: asyncio.Future[None] | None = None
        most = self._admission.most
        crew = self._crew = Crew(self._gate, lambda: asyncio.ensure_future(self._work()), most)
        crew.grow()
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
            crew.close()
            for worker in crew.workers:
                worker.cancel()
            try:
                await asyncio.gather(*crew.workers, return_exceptions=True)
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
            if job.running == 0 or job.waiting >= MANY:
                self._enough.set()
            self._changed.set()
            if row is None:
                if job.at_end:
                    return
                await (asyncio.sleep(0) if job.has_room else self._space.wait())

    async def _outcome(self, row: Row) -> Outcome:
        stream: AsyncStream | None = None
        try:
            async with self._gate.place() as place:
                self._crew.grow()
                stream = self._llm.raising_stream(row.inputs, row.parameters, place)
                return await stream.drain(), stream.attempts
        except BaseException as error:  # noqa: BLE001  (of the row, or of the job, which raises it)
            return error, 1 if stream is None else stream.attempts
