"""`lagent-llms batch`: run the rows of a file through a backend, into a file."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Annotated, Any

import typer

from ..batch.drivers import AsyncBatchRun
from ..batch.output import OutputFailed
from ..batch.records import count_records
from ..batch.results import BatchSummary
from ..batch.run import PreparedBatch
from ..config import create_llm
from ..errors import InvalidArgument
from .batch_progress import Progress, counted, figures, showing_progress
from .connection import URL, Backend, Config, Model, Named, Profile, named_backend
from .output import OutputError, emit, visible
from .terminal import kept, named_by_option, parse_settings, progress

__all__ = ["batch"]

#: Exit statuses besides 0 (every row has an answer) and 1 (an error).
_ROWS_FAILED, _INTERRUPTED = 3, 130
#: What a signal ends a job with.
_BY_SIGNAL = "interrupted"
#: Seconds between two updates of the display.
_SHOWING_INTERVAL = 0.5
#: Options that are checked before the backend is made.
_CHECKED = ("max_concurrency", "max_failures", "max_per_second", "prompt_template")


def batch(
    rows: Annotated[str, typer.Argument(help="JSON lines (also .gz, .zst), Parquet or CSV; - is stdin.")],
    output: Annotated[str, typer.Argument(help="The file of the results. If it exists, the job continues.")],
    config: Config = None,
    profile: Profile = None,
    url: URL = None,
    model: Model = None,
    backend: Backend = None,
    prompt_template: Annotated[
        str | None, typer.Option(help="The prompt, with {columns} of a row; @FILE; or messages as JSON.")
    ] = None,
    ordered: Annotated[bool, typer.Option(help="Write the results in the order of the input.")] = False,
    openai: Annotated[bool, typer.Option(help="Write the results in the form of OpenAI's batches.")] = False,
    retry_errors: Annotated[bool, typer.Option(help="Run the rows again that failed before.")] = False,
    max_failures: Annotated[
        str | None, typer.Option(help="End when more rows than this fail: a number, or 1%.")
    ] = None,
    max_concurrency: Annotated[
        str | None, typer.Option(help="Most calls at once, or auto (the default), which finds the number.")
    ] = None,
    max_per_second: Annotated[
        float | None, typer.Option(help="Most calls that are sent in a second, retries included.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="End at the first line that is broken.")] = False,
    summary: Annotated[bool, typer.Option(help="Print the figures of the job as JSON at the end.")] = False,
    cache: Annotated[
        str | None, typer.Option(help="A folder: answers of deterministic calls are kept and used again.")
    ] = None,
    journal: Annotated[str | None, typer.Option(help="A file where every call is kept.")] = None,
    no_content: Annotated[
        bool, typer.Option("--no-content", help="Keep only the figures of calls in the journal.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on the Ray cluster there: HOST:PORT, auto, or local."),
    ] = None,
    actors: Annotated[int | None, typer.Option(min=1, help="With --ray: processes with a backend.")] = None,
    actor_cpus: Annotated[
        float | None, typer.Option(min=0, help="With --ray: CPUs of each of them, by default 1.")
    ] = None,
    actor_gpus: Annotated[float | None, typer.Option(min=0, help="With --ray: GPUs of each of them.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the backend: key=value; repeatable.")
    ] = None,
) -> None:
    """Run each row of a file through the configured model (by default the embedded one).

    Killed or interrupted, the same command continues. Ctrl-C finishes the rows that run; a second one stops
    at once. The status is 0 if every row has an answer, 3 if rows failed.
    """
    named = named_backend(config, profile, url, model, backend)
    overrides = {**kept(cache, journal, content=not no_content), **parse_settings(settings or ())}
    actor = {"--actors": actors, "--actor-cpus": actor_cpus, "--actor-gpus": actor_gpus}
    if ray is None and (given := [name for name, value in actor.items() if value is not None]):
        raise InvalidArgument(f"{given[0]}: only with --ray", argument=given[0])
    with named_by_option({name: f"--{name.replace('_', '-')}" for name in _CHECKED}):
        prepared = PreparedBatch(
            rows,
            output,
            prompt_template=prompt_template,
            ordered=ordered,
            output_format="openai" if openai else "lagent_llms",
            retry_errors=retry_errors,
            max_failures=max_failures,
            max_concurrency=_number(max_concurrency),
            max_per_second=max_per_second,
            strict=strict,
        )
    try:
        if ray is not None:
            from .batch_cluster import run_on_cluster

            cluster = (ray, actors, 1.0 if actor_cpus is None else actor_cpus, actor_gpus or 0.0)
            found = run_on_cluster(prepared, rows, named, overrides, cluster)
        else:
            found = _run_here(prepared, rows, named, overrides)
    except OutputFailed as error:
        raise OutputError(f"{error.strerror}; the same command continues") from error
    if summary:
        emit(json.dumps(found.as_dict()) + "\n")
    _tell_summary(found, output)
    if found.stopped:
        raise typer.Exit(_INTERRUPTED if found.stopped == _BY_SIGNAL else 1)
    if found.failed:
        raise typer.Exit(_ROWS_FAILED)


def _run_here(prepared: PreparedBatch, rows: str, named: Named, overrides: dict[str, Any]) -> BatchSummary:
    with (
        progress("starting the model"),
        named_by_option({**named.options, **{name: f"--set {name}" for name in overrides}}),
    ):
        llm: Any = create_llm(named.source, profile=named.profile, asynchronous=True, **overrides)
    run: AsyncBatchRun = prepared.on(llm)
    with showing_progress() as show:
        asyncio.run(_run(llm, run, rows, show))
    if llm.journal is not None and llm.journal.lost:
        _tell(f"{llm.journal.lost} calls could not be written to the journal {llm.journal.path}")
    return run.summary


async def _run(llm: Any, run: AsyncBatchRun, rows: str, show: Progress) -> None:
    job = asyncio.ensure_future(_all_results(run))
    showing = asyncio.ensure_future(_show(run, rows, show))
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if run.summary.stopped:
            job.cancel()
            return
        _tell(f"finishing {counted(run.running, 'row')}; once more stops at once")
        run.stop(_BY_SIGNAL)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, interrupt)
        except NotImplementedError:  # asyncio on Windows has no signal handlers: Ctrl-C ends the job at once
            break
    try:
        await job
    except asyncio.CancelledError:
        pass
    finally:
        showing.cancel()
        show(run.summary, run.in_flight, None)
        await llm.aclose()


async def _all_results(run: AsyncBatchRun) -> None:
    async for _ in run:
        pass


async def _show(run: AsyncBatchRun, rows: str, show: Progress) -> None:
    """Show the progress until it is cancelled; the rows of a long file are counted meanwhile."""
    counting = asyncio.ensure_future(asyncio.to_thread(count_records, rows))
    while True:
        show(run.summary, run.in_flight, counting.result() if counting.done() else None)
        await asyncio.sleep(_SHOWING_INTERVAL)


def _number(given: str | None) -> Any:
    """`given` as an integer where it is one."""
    try:
        return None if given is None else int(given)
    except ValueError:
        return given


def _tell_summary(found: BatchSummary, output: str) -> None:
    _tell(f"{counted(found.rows, 'row')} in {output}, {figures(found)}")
    if found.earlier:
        _tell(f"{found.earlier} of them {'is' if found.earlier == 1 else 'are'} from earlier runs")
    if found.cached:
        _tell(f"{found.cached} of them {'was' if found.cached == 1 else 'were'} answered from the cache")
    if found.repaired:
        _tell(f"{counted(found.repaired, 'byte')} of broken rows removed from the output; the rows ran again")
    if found.repeated:
        _tell(f"{counted(found.repeated, 'row')} left out: their id is that of an earlier row")
    if found.first_failure:
        _tell(f"the first failure: {found.first_failure}")
    if found.stopped:
        _tell(f"ended early: {found.stopped}; the same command continues")
    if found.failed:
        _tell("--retry-errors runs the failed rows again")


def _tell(message: str) -> None:
    if sys.stderr is not None:
        print(visible(message, sys.stderr), file=sys.stderr, flush=True)
