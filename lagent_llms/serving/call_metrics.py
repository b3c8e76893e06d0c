"""Prometheus metrics of a backend's calls, under the names of OpenTelemetry's conventions for generative AI.

Only prometheus_client is needed: any application can use them, with or without a server of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.telemetry import DURATION_BUCKETS, FIRST_CHUNK_BUCKETS, TOKEN_BUCKETS
from ..core.usage import CallRecord, UsageCounter
from ..errors import MissingDependency

try:
    from prometheus_client import REGISTRY, Counter, Histogram
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["CallMetrics"]

_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


class CallMetrics:
    """Histograms of tokens and times of calls, and counters of retries and cached answers.

    Args:
        registry: Where the metrics are registered; once for each registry.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._tokens = Histogram(
            "gen_ai_client_token_usage",
            "Number of input and output tokens used",
            [*_LABELS, "gen_ai_token_type"],
            buckets=TOKEN_BUCKETS,
            registry=registry,
        )
        self._seconds = Histogram(
            "gen_ai_client_operation_duration_seconds",
            "Duration of a call, retries included",
            [*_LABELS, "error_type"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Time to the first piece of an answer",
            _LABELS,
            buckets=FIRST_CHUNK_BUCKETS,
            registry=registry,
        )
        self._retries = Counter("lagent_call_retries", "Retries of calls", _LABELS, registry=registry)
        self._cached = Counter("lagent_cached_answers", "Answers from the cache", _LABELS, registry=registry)

    def observe(self, usage: UsageCounter) -> None:
        """Record every call that ``llm.usage`` counts from now on."""
        usage.subscribe(self._record)

    def _record(self, call: CallRecord) -> None:
        labels = call.operation, call.provider, call.model
        completion = call.completion
        failed = "" if call.error is None else type(call.error).__qualname__
        self._seconds.labels(*labels, failed).observe(call.seconds)
        if call.first_chunk is not None:
            self._first_chunk.labels(*labels).observe(call.first_chunk)
        if call.retries:
            self._retries.labels(*labels).inc(call.retries)
        if completion is not None and completion.cached:
            self._cached.labels(*labels).inc()
        elif completion is not None and completion.usage is not None:
            self._tokens.labels(*labels, "input").observe(completion.usage.prompt_tokens)
            self._tokens.labels(*labels, "output").observe(completion.usage.completion_tokens)
