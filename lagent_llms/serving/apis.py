"""The routes of all APIs over one backend."""

from __future__ import annotations

from fastapi import APIRouter

from ..core.base import AsyncBaseLLM
from .anthropic.routes import anthropic_routes
from .calls import Calls
from .disconnect import Injection
from .openai.responses_api.routes import responses_routes
from .openai.routes import openai_routes

__all__ = ["api_routes"]


def api_routes(
    llm: AsyncBaseLLM, model: str, *, injection: Injection | None = None, seconds: float | None = None
) -> APIRouter:
    """Make the router.

    Args:
        llm: The backend.
        model: Its model name; a request for another model gets 404.
        injection: See `call_keywords`.
        seconds: See `call_keywords`.
    """
    calls = Calls(llm, model, injection=injection, seconds=seconds)
    router = APIRouter()
    for routes in (openai_routes, responses_routes, anthropic_routes):
        router.include_router(routes(calls))
    return router
