"""EasyDeL's routes of a `JAXServer`: POST /instruct, POST /chat and GET /status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ..request_bodies import described, parsed
from .schemas import ChatRequest, InstructRequest
from .threads import LazyThreadPool, run_in_thread

__all__ = ["DOWN", "native_routes"]

#: The response of a server without a model.
DOWN = {"status": "down"}


class _Server(Protocol):
    def forward_instruct(self, data: InstructRequest) -> Any: ...
    def forward_chat(self, data: ChatRequest) -> Any: ...
    def status(self) -> dict[str, Any]: ...


def native_routes(server: _Server, threads: LazyThreadPool) -> APIRouter:
    """Make the router.

    Args:
        server: Its methods answer the requests; they are looked up at each request, so overrides take effect.
        threads: Runs the ``forward_…`` methods, which may block.
    """
    router = APIRouter()

    async def respond(request: Request, forward: Callable[[Any], Any], data: Any) -> Response:
        result = await run_in_thread(request, threads, forward, data)
        if isinstance(result, dict) and "tokens_used" in result:
            request.state.usage = {"completion_tokens": result["tokens_used"]}
        return (
            result if isinstance(result, Response) else JSONResponse(result, 503 if result == DOWN else 200)
        )

    @router.post("/instruct", openapi_extra=described(InstructRequest, "/instruct"))
    async def instruct(
        data: Annotated[InstructRequest, parsed(InstructRequest)], request: Request
    ) -> Response:
        return await respond(request, server.forward_instruct, data)

    @router.post("/chat", openapi_extra=described(ChatRequest, "/chat"))
    async def chat(data: Annotated[ChatRequest, parsed(ChatRequest)], request: Request) -> Response:
        return await respond(request, server.forward_chat, data)

    @router.get("/status")
    async def status() -> dict[str, Any]:
        return server.status()

    return router
