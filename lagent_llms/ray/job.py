"""A batch job on a Ray cluster: the driver reads the rows, actors run them and store results in shards."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import threading
import time
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from ..batch.job import exceeds
from ..batch.output import BatchOutput
from ..batch.results import BatchResult, BatchSummary
from ..batch.rows import Row
from ..batch.run import Output, PreparedBatch, Records
from ..batch.shards import shards_folder
from ..config import Source
from ..errors import ConfigError, InvalidArgument, LLMError, MissingDependency
from .pool import ActorPool, check_backend
from .worker import JobWorker

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..batch.run import BatchOptions

__all__ = ["ClusterRun", "connect", "run_batch"]

#: Chunks of a task, where there are many: a task costs Ray tens of milliseconds of CPU.
_CHUNKS = 8
#: Seconds between two looks whether the cluster still has room for the actors.
_ROOM_INTERVAL = 5.0


def run_batch(
    llm: Source | None,
    rows: Records,
    output: Output,
    *,
    address: str | None = None,
    profile: str | None = None,
    actors: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    overrides: Mapping[str, Any] | None = None,
    **options: Unpack[BatchOptions],
) -> ClusterRun:
    """Run a batch of any size on a Ray cluster: iterate over its figures as results are stored.

    The same call again continues where the last one ended, however it ended, and so does `run_batch` of
    lagent_llms, on one machine.

    Args:
        llm: The backend's configuration, as for `create_llm`.
        rows: See `lagent_llms.run_batch`. The driver reads them all before the first one runs.
        output: The file of the results, in a folder that has the same path on every node.
        address: The cluster's; 'local' starts one on this machine, 'auto' finds the running one; None uses
            the one this process is connected to, else 'local'.
        profile: A profile of the configuration file.
        actors: Number of actors, each with a backend; None is as many as there is room for, with one node
            kept free on clusters of three or more, for the actors of a node that dies.
        num_cpus: CPUs of each actor.
        num_gpus: GPUs of each actor.
        overrides: Parameters that replace the configuration's.
        options: See `lagent_llms.run_batch`; `max_concurrency` is that of each actor. Not `ordered`.

    Raises:
        LLMError: The configuration, the input, the output or an option cannot be used, or the cluster cannot
            be reached or has no room for the actors.
    """
    if output is None:
        raise InvalidArgument("output=None: a batch on a cluster needs a file", argument="output")
    prepared = PreparedBatch(rows, output, **options)
    assert prepared.output is not None
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(prepared.output.close)
        settings = check_backend(llm, profile=profile, **(overrides or {}))
        run = ClusterRun(prepared, settings, address, actors, num_cpus, num_gpus)
        on_failure.pop_all()
    return run


def connect(address: str | None) -> None:
    """Connect this process to a cluster, unless it is.

    Raises:
        ConfigError: There is no cluster at the address.
        MissingDependency: The extra `ray` is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # otherwise it replaces 127.0.0.1
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingDependency.of("ray[data]", "ray") from error
    if ray.is_initialized():
        return
    if address is not None and address.startswith("ray://"):
        raise ConfigError(f"{address}: run the batch on a node of the cluster, with its address or 'auto'")
    try:
        ray.init(address or "local", logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"cannot connect to the Ray cluster {address}: {reason}") from error


class ClusterRun(Iterable[BatchSummary]):
    """A batch on a cluster: iterate once; each step is the summary, after more results were stored.

    Leaving the loop or `close` stops the calls; what is stored stays.

    Args:
        prepared: The rows and the output.
        settings: The configuration of the backend, checked.
        address, actors, num_cpus, num_gpus: See `run_batch`.
    """

    def __init__(
        self,
        prepared: PreparedBatch,
        settings: dict[str, Any],
        address: str | None = None,
        actors: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
    ) -> None:
        if prepared.ordered:
            raise InvalidArgument("ordered=True: a batch on a cluster is not ordered", argument="ordered")
        assert prepared.output is not None
        self._output: BatchOutput = prepared.output
        self._rows, self._encode, self._limit = prepared.rows, prepared.encode, prepared.limit
        self._settings = settings
        pool = ActorPool(actors or 1, num_cpus, num_gpus, None, prepared.concurrency)
        connect(address)
        if actors is None and (rooms := sorted(pool.room())):
            spare = rooms[-1] if len(rooms) > 2 else 0
            pool = ActorPool(max(1, sum(rooms) - spare), num_cpus, num_gpus, None, prepared.concurrency)
        pool.check_room()
        self._pool = pool
        if (rate := prepared.given.get("max_per_second")) is not None:
            self._settings = {**settings, "max_per_second": rate / pool.most}
        self._waiting = 0  # rows that are handed to Ray and not stored
        self._failed = self._stored = 0
        self._began = time.monotonic()
        self._results: Generator[BatchSummary, None, None] | None = None
        self._folder = shards_folder(self._output.path)
        output = self._output
        self.summary = BatchSummary(
            rows=output.done, failed=output.failed, earlier=output.done, repaired=output.repaired
        )

    @property
    def running(self) -> int:
        """Number of rows that are in an actor, at most."""
        return min(self._waiting, self._pool.most * 2 * self._pool.concurrency(self._settings))

    def __iter__(self) -> Iterator[BatchSummary]:
        if self._results is not None:
            raise LLMError("a batch can be iterated only once; run_batch makes another, which continues it")
        self._results = self._all_results()
        return self._results

    def close(self) -> None:
        """Stop the calls and free the output; what is stored stays."""
        if self._results is not None:
            self._results.close()
        self._output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all_results(self) -> Generator[BatchSummary, None, None]:
        try:
            chunks = [*self._chunks()]
            yield self.summary
            if chunks and not self.summary.stopped:
                yield from self._run(chunks)
        except (GeneratorExit, KeyboardInterrupt):
            self.summary.stopped = self.summary.stopped or "interrupted"
            raise
        except BaseException as error:
            self.summary.stopped = str(error) or type(error).__name__
            raise
        finally:
            with contextlib.closing(self._output):
                self._output.merge_shards()

    def _chunks(self) -> Iterator[dict[str, bytes]]:
        """Rows to run, some to a task; broken rows are stored as errors."""
        rows = self._unknown_rows()
        most = self._pool.task_rows(self._settings)
        first = [*islice(rows, 2 * most * self._pool.most)]
        size = max(1, min(most, len(first) // (2 * self._pool.most)))  # few rows are spread over all actors
        rows = chain(first, rows)
        while chunk := [*islice(rows, size)]:
            self._waiting += len(chunk)
            yield {"rows": pickle.dumps(chunk)}

    def _unknown_rows(self) -> Iterator[Row]:
        broken: list[BatchResult] = []
        for row in self._rows:
            if not self._output.claim(row.identity):
                continue
            if row.error is None:
                yield row
                continue
            broken.append(BatchResult(row, error=row.error))
            if len(broken) >= 500:
                self._store(broken)
                broken = []
        self._store(broken)
        self.summary.repeated = self._output.repeated

    def _store(self, broken: list[BatchResult]) -> None:
        if broken:
            self._output.append([self._encode(result, "") for result in broken])
            part = BatchSummary()
            for result in broken:
                part.add(result)
            self._count(part)

    def _count(self, part: BatchSummary) -> None:
        summary = self.summary
        summary.merge(part)
        summary.seconds = time.monotonic() - self._began
        self._stored += part.rows
        self._failed += part.failed
        if exceeds(self._limit, self._failed, self._stored):
            summary.stopped = f"{self._failed} of {self._stored} rows failed, more than max_failures allows"

    def _run(self, chunks: list[dict[str, bytes]]) -> Iterator[BatchSummary]:
        import ray.data

        os.makedirs(self._folder, exist_ok=True)
        blocks = max(len(chunks) // _CHUNKS, min(len(chunks), self._pool.most_tasks(self._settings)))
        dataset = ray.data.from_items(chunks, override_num_blocks=blocks)
        dataset.context.enable_progress_bars = False
        dataset.context.raise_original_map_exception = True
        chunks.clear()
        dataset = dataset.map_batches(
            batch_size=1,
            **self._pool.options(JobWorker, self._settings, self._folder, self._encode),
        )
        ended = threading.Event()
        threading.Thread(target=self._watch, args=[ended], daemon=True).start()
        try:
            for found in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                for encoded in found["summary"].to_pylist():
                    part: BatchSummary = pickle.loads(encoded)
                    self._waiting -= part.rows
                    self._count(part)
                yield self.summary
                if self.summary.stopped:
                    return
        except Exception as error:  # noqa: BLE001  (raised as the actor's own)
            raise _of_actor(error) from None
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        """Warn when nodes are gone and their actors have no other place: Ray waits for new nodes."""
        while not ended.wait(_ROOM_INTERVAL):
            if (found := sum(self._pool.room())) < self._pool.least:
                warnings.warn(
                    f"the cluster has room for {found} of {self._pool.least} actors: the rows of the others "
                    "wait for new nodes; end the job and the same command continues with what is left",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return


def _of_actor(error: BaseException) -> BaseException:
    """The LLMError that an actor has raised, without what Ray adds to its text; else `error`."""
    found = getattr(error, "cause", error)
    if isinstance(found, LLMError) and found.args:
        found.args = (str(found.args[0]).partition("\nFailed to apply UDF transform")[0], *found.args[1:])
        return found
    return error
