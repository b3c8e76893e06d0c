"""The FastAPI application around routes: limits, CORS, errors in one form, /health."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from ..core.base import AsyncBaseLLM
from ..errors import InvalidArgument, LLMError, UnsupportedParameter
from .cross_site import LOCAL_ORIGIN
from .disconnect import ClientGone
from .error_responses import error_body, error_headers, error_status
from .limits import Limits, LimitsMiddleware
from .metrics import Metrics, MetricsMiddleware
from .openai.api import openai_routes

__all__ = ["make_app", "openai_app"]


def make_app(
    limits: Limits | None = None,
    on_end: Callable[[], Awaitable[None]] | None = None,
    *,
    ready: Callable[[], bool] = lambda: True,
    stats: Callable[[], Any] | None = None,
) -> FastAPI:
    """An application without routes but /health and /metrics.

    Args:
        limits: What it lets through; None is the defaults.
        on_end: Awaited when the server has answered what was running.
        ready: Whether there is a model that answers.
        stats: Counters of the engine behind it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if on_end is not None:
            await on_end()

    app = FastAPI(title="lagent_llms", lifespan=lifespan)
    app.state.limits = limits = limits or Limits()
    metrics = Metrics(limits, stats)
    app.add_middleware(LimitsMiddleware, limits=limits)
    app.add_middleware(MetricsMiddleware, metrics=metrics)  # counts refusals, too
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=LOCAL_ORIGIN,
        allow_origins=limits.origins,
        allow_methods=["*"],
        allow_headers=["*"],
    )  # outermost: a refusal must be readable by a page, too
    app.add_exception_handler(LLMError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _http_error)
    app.add_exception_handler(ClientGone, _gone)

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok"}) if ready() else JSONResponse({"status": "down"}, 503)

    app.get("/metrics", response_class=Response)(metrics.page)
    return app


def openai_app(llm: AsyncBaseLLM, model: str, limits: Limits | None = None) -> FastAPI:
    """An OpenAI-compatible face before `llm`, which is closed when the server ends."""
    engine = getattr(llm, "engine", None)  # ours tells what it does; a remote one does not
    app = make_app(limits, llm.aclose, stats=getattr(engine, "stats", None))
    app.include_router(openai_routes(llm, model))
    return app


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, LLMError)
    status, code = error_status(error)
    param = None
    if isinstance(error, InvalidArgument):
        param = error.argument or None
    elif isinstance(error, UnsupportedParameter):
        param = error.parameter or None
    code = getattr(error, "code", "") or code
    return JSONResponse(error_body(status, str(error), code, param), status, error_headers(error))


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    message = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()[:5]
    )
    return JSONResponse(error_body(400, message, "invalid_request", place or None), 400)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, (HTTPException, StarletteHTTPException))
    return JSONResponse(error_body(error.status_code, str(error.detail)), error.status_code, error.headers)


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
