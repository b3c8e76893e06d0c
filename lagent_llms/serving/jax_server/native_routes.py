"""POST /instruct, POST /chat and GET /status of a `JAXServer`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from .native_models import ChatRequest, InstructRequest
from .threads import Threads, answer_in_thread

__all__ = ["DOWN", "native_routes"]

#: What a server without a model answers.
DOWN = {"status": "down"}


class _Server(Protocol):
    def forward_instruct(self, data: InstructRequest) -> Any: ...
    def forward_chat(self, data: ChatRequest) -> Any: ...
    def status(self) -> dict[str, Any]: ...


def native_routes(server: _Server, threads: Threads) -> APIRouter:
    """The routes. The server's methods are looked up at each call, so that an override is what answers.

    Args:
        server: Answers.
        threads: Where it answers, for an override may block.
    """
    router = APIRouter()

    async def answer(request: Request, work: Callable[[Any], Any], data: Any) -> Response:
        found = await answer_in_thread(request, threads, work, data)
        return found if isinstance(found, Response) else JSONResponse(found, 503 if found == DOWN else 200)

    @router.post("/instruct")
    async def instruct(data: InstructRequest, request: Request) -> Response:
        return await answer(request, server.forward_instruct, data)

    @router.post("/chat")
    async def chat(data: ChatRequest, request: Request) -> Response:
        return await answer(request, server.forward_chat, data)

    @router.get("/status")
    async def status() -> dict[str, Any]:
        return server.status()

    return router
