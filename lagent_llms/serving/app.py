"""The FastAPI application shared by all servers: limits, CORS, error responses, /health and /metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..core.base import AsyncBaseLLM
from ..core.usage import UsageCounter
from ..errors import LLMError, MissingDependency
from .cross_site import LOCAL_ORIGIN
from .error_responses import clipped, error_body

try:
    from fastapi import FastAPI, HTTPException, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException as StarletteHTTPException

    from .anthropic.errors import AnthropicErrorsMiddleware
    from .apis import api_routes
    from .call_metrics import CallMetrics
    from .disconnect import ClientDisconnected, Injection
    from .limits import Limits, LimitsMiddleware
    from .metrics import Metrics, MetricsMiddleware
    from .request_log import RequestLogMiddleware, logged_response
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

__all__ = ["make_app", "openai_app"]


def make_app(
    limits: Limits | None = None,
    on_end: Callable[[], Awaitable[None]] | None = None,
    *,
    ready: Callable[[], bool] = lambda: True,
    stats: Callable[[], Any] | None = None,
    usage: UsageCounter | None = None,
) -> FastAPI:
    """Make an application whose only routes are /health and /metrics.

    Args:
        limits: Limits on requests; None takes the defaults of `Limits`.
        on_end: Awaited at shutdown, after all running requests were answered.
        ready: True while a model is loaded; /health answers 503 otherwise.
        stats: Returns the engine's counters (`EngineStats`) for /metrics; None reports none.
        usage: What counts the calls of a backend, for /metrics; None reports none.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if on_end is not None:
            await on_end()

    app = FastAPI(title="lagent_llms", lifespan=lifespan)
    app.state.limits = limits = limits or Limits()
    metrics = Metrics(limits, stats)
    if usage is not None:
        CallMetrics(metrics.registry).observe(usage)
    app.add_middleware(LimitsMiddleware, limits=limits)
    app.add_middleware(RequestLogMiddleware)  # outside the limits: logs 401 and 429
    app.add_middleware(AnthropicErrorsMiddleware)  # outside all that answers with errors
    app.add_middleware(MetricsMiddleware, metrics=metrics)  # outside the log, which answers exceptions
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=LOCAL_ORIGIN,
        allow_origins=limits.origins,
        allow_methods=["*"],
        allow_headers=["*"],
    )  # outermost: a browser can read an error response only with CORS headers
    app.add_exception_handler(LLMError, _llm_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(ClientDisconnected, _client_disconnected)

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"}) if ready() else JSONResponse({"status": "down"}, 503)

    app.get("/metrics", response_class=Response)(metrics.response)
    return app


def openai_app(
    llm: AsyncBaseLLM,
    model: str,
    limits: Limits | None = None,
    *,
    injection: Injection | None = None,
) -> FastAPI:
    """Make an application over `llm` with OpenAI's and Anthropic's APIs.

    Args:
        llm: The backend; the application closes it at shutdown.
        model: The model name that requests must give.
        limits: Limits on requests; None takes the defaults of `Limits`.
        injection: What becomes of special tokens in the texts of clients (`CallOptions.injection`); None is
            the default of `llm`, or 'escape' if that is 'allow'.
    """
    engine = getattr(llm, "engine", None)  # only a backend in this process has one
    app = make_app(limits, llm.aclose, stats=getattr(engine, "stats", None), usage=llm.usage)
    app.include_router(api_routes(llm, model, injection=injection, seconds=app.state.limits.request_seconds))
    return app


async def _llm_error(request: Request, error: Exception) -> Response:
    response = logged_response(error, request.state.request_id)
    return JSONResponse(response.body, response.status, response.headers)


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = clipped(".".join(str(part) for part in first["loc"] if part != "body"))
    message = "; ".join(
        clipped(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}")
        for item in error.errors()[:5]
    )
    return JSONResponse(error_body(400, message, "invalid_request", field or None), 400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, (HTTPException, StarletteHTTPException))
    return JSONResponse(error_body(error.status_code, str(error.detail)), error.status_code, error.headers)


async def _client_disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # never sent: the connection is closed
