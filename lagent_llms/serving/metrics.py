"""Figures of a running server: GET /metrics for Prometheus, and what /status tells of the machine."""

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

__all__ = ["Metrics", "MetricsMiddleware", "cores", "memory"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Stats(Protocol):
    slots_in_use: int
    waiting: int
    requests_served: int
    prompt_tokens: int
    cached_prompt_tokens: int
    completion_tokens: int


class Metrics:
    """Counters of one application.

    Args:
        limits: Knows how many requests are there.
        stats: Counters of the engine behind it, where there is one.
    """

    def __init__(self, limits: Limits, stats: Callable[[], Any] | None = None) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter("lagent_requests", "Requests answered", ["route", "status"], registry=None)
        seconds = Histogram(
            "lagent_request_seconds", "Until the answer's end", ["route"], registry=None, buckets=_SECONDS
        )
        first_byte = Histogram(
            "lagent_first_byte_seconds", "Until its first byte", ["route"], registry=None, buckets=_SECONDS
        )
        in_flight = Gauge("lagent_requests_in_flight", "Requests answered or waiting now", registry=None)
        for figure in (requests, seconds, first_byte, in_flight):
            self.registry.register(figure)
        self.requests, self.seconds, self.first_byte = requests, seconds, first_byte
        in_flight.set_function(lambda: limits.in_flight)
        if stats is not None:
            self.registry.register(_EngineCollector(stats))

    def page(self) -> Response:
        """What GET /metrics answers."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)


class _EngineCollector(Collector):
    """The engine's counters, read when somebody asks."""

    def __init__(self, stats: Callable[[], _Stats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        try:
            stats = self._stats()
        except LLMError:  # the engine is closed
            return
        yield GaugeMetricFamily("lagent_slots_in_use", "Requests being computed", stats.slots_in_use)
        yield GaugeMetricFamily("lagent_requests_waiting", "Requests without a slot", stats.waiting)
        yield CounterMetricFamily("lagent_generations", "Generations that ended", stats.requests_served)
        yield CounterMetricFamily("lagent_prompt_tokens", "Prompt tokens", stats.prompt_tokens)
        yield CounterMetricFamily(
            "lagent_cached_prompt_tokens", "Prompt tokens that were reused", stats.cached_prompt_tokens
        )
        yield CounterMetricFamily("lagent_completion_tokens", "Tokens generated", stats.completion_tokens)


class MetricsMiddleware:
    """Counts requests and their times. Plain ASGI, as `LimitsMiddleware` is."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(
        self, scope: Any, receive: Any, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
    ) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, first = time.perf_counter(), 499, None  # 499: the client left before an answer

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status = message["status"]
            elif first is None and message.get("body"):
                first = time.perf_counter() - began
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            # The route's pattern and not the path, of which clients could make up any number.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
            if first is not None:
                self._metrics.first_byte.labels(route).observe(first)


def cores() -> int | None:
    """How many cores this process may use, or the machine has where the platform does not tell (macOS)."""
    may_use = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else ()
    return len(may_use) or psutil.cpu_count()


def memory() -> dict[str, Any]:
    """Bytes of this process, of the machine, and of JAX's devices where they tell."""
    machine = psutil.virtual_memory()
    devices = sys.modules["jax"].local_devices() if "jax" in sys.modules else []
    return {
        "process": psutil.Process().memory_info().rss,
        "machine": machine.total,
        "available": machine.available,
        "devices": {str(device): device.memory_stats() for device in devices},
    }
