"""Metrics of a running server: Prometheus counters for /metrics, cores and memory for /status."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Protocol

import psutil
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..errors import LLMError
from .limits import Limits

__all__ = ["Metrics", "MetricsMiddleware", "available_cores", "memory_usage"]

#: Histogram buckets, in seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Stats(Protocol):
    """The counters of `EngineStats`."""

    slots_in_use: int
    waiting: int
    requests_served: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


class Metrics:
    """Prometheus metrics of one application.

    Args:
        limits: Holds the number of requests in flight.
        stats: Returns the engine's counters; None for a backend without an engine in this process.
    """

    def __init__(self, limits: Limits, stats: Callable[[], Any] | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter("lagent_requests", "Answered requests", ["route", "status"], registry=None)
        seconds = Histogram(
            "lagent_request_seconds",
            "Time to the response's end",
            ["route"],
            registry=None,
            buckets=_BUCKETS,
        )
        first_byte = Histogram(
            "lagent_first_byte_seconds",
            "Time to its first byte",
            ["route"],
            registry=None,
            buckets=_BUCKETS,
        )
        in_flight = Gauge("lagent_requests_in_flight", "Requests running or waiting now", registry=None)
        for metric in (requests, seconds, first_byte, in_flight):
            self.registry.register(metric)
        self.requests, self.seconds, self.first_byte = requests, seconds, first_byte
        in_flight.set_function(lambda: limits.in_flight)
        if stats is not None:
            self.registry.register(_EngineCollector(stats))

    def response(self) -> Response:
        """The response to GET /metrics."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


class _EngineCollector(Collector):
    """The engine's counters, read at each request for /metrics."""

    def __init__(self, stats: Callable[[], _Stats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        try:
            stats = self._stats()
        except LLMError:  # closed, or not loaded
            return
        yield GaugeMetricFamily("lagent_slots_in_use", "Requests decoding now", stats.slots_in_use)
        yield GaugeMetricFamily("lagent_requests_waiting", "Requests waiting for a slot", stats.waiting)
        yield CounterMetricFamily("lagent_generations", "Finished generations", stats.requests_served)
        yield CounterMetricFamily("lagent_prompt_tokens", "Prompt tokens", stats.prompt_tokens)
        yield CounterMetricFamily(
            "lagent_cached_prompt_tokens", "Prompt tokens taken from the cache", stats.cached_prompt_tokens
        )
        yield CounterMetricFamily("lagent_completion_tokens", "Generated tokens", stats.completion_tokens)


class MetricsMiddleware:
    """Counts requests and measures their times. Plain ASGI, as `LimitsMiddleware` is."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(
        self, scope: Any, receive: Any, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ) -> None:
        """Pass a request on and record its status and times."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, first_byte = time.perf_counter(), 499, None  # 499: the client disconnected first

        async def observed(message: MutableMapping[str, Any]) -> None:
            nonlocal status, first_byte
            if message["type"] == "http.response.start":
                status = message["status"]
            elif first_byte is None and message.get("body"):
                first_byte = time.perf_counter() - started
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            # The route's pattern, not the path: clients could create any number of label values.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
            if first_byte is not None:
                self._metrics.first_byte.labels(route).observe(first_byte)


def available_cores() -> int | None:
    """Cores this process may use; all of the machine's where the platform has no affinity (macOS)."""
    affinity = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else ()
    return len(affinity) or psutil.cpu_count()


def memory_usage() -> dict[str, Any]:
    """Memory of this process, the machine and JAX's devices, in bytes; None for devices that report none."""
    machine = psutil.virtual_memory()
    devices = sys.modules["jax"].local_devices() if "jax" in sys.modules else []
    return {
        "process": psutil.Process().memory_info().rss,
        "machine": machine.total,
        "available": machine.available,
        "devices": {str(device): device.memory_stats() for device in devices},
    }
