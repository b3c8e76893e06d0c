"""`lagent-llms batch --ray`: the batch on a Ray cluster."""

from __future__ import annotations

import signal
import time
from typing import Any

from ..batch.records import count_records
from ..batch.results import BatchSummary
from ..batch.run import PreparedBatch
from ..ray.job import ClusterRun
from ..ray.pool import check_backend
from .batch_progress import showing_progress
from .connection import Named
from .terminal import named_by_option, progress

__all__ = ["run_on_cluster"]

#: Options by their parameters.
_OPTIONS = {
    "num_cpus": "--actor-cpus",
    "num_gpus": "--actor-gpus",
    "actors": "--actors",
    "ordered": "--ordered",
}
#: Seconds between two updates of the display.
_SHOWING_INTERVAL = 0.5


def run_on_cluster(
    prepared: PreparedBatch,
    source: str,
    named: Named,
    overrides: dict[str, Any],
    cluster: tuple[str, int | None, float, float],
) -> BatchSummary:
    """Run a batch to its end, or until a signal, and return its figures.

    Args:
        prepared: The batch.
        source: Its input, whose rows are counted for the progress.
        named: The configuration and its profile.
        overrides: Parameters that replace the configuration's.
        cluster: Its address, the number of actors, and the CPUs and GPUs of each.
    """
    with named_by_option({**named.options, **{name: f"--set {name}" for name in overrides}, **_OPTIONS}):
        settings = check_backend(named.source, profile=named.profile, **overrides)
        with progress("connecting to the cluster"):
            run = ClusterRun(prepared, settings, *cluster)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # after Ray, which sets its own
    total, shown = count_records(source), 0.0
    try:
        with run, showing_progress() as show:
            for summary in run:
                if time.monotonic() >= shown + _SHOWING_INTERVAL:
                    shown = time.monotonic()
                    show(summary, run.running, total)
            show(run.summary, 0, total)
    except KeyboardInterrupt:
        run.summary.stopped = "interrupted"
    return run.summary
