"""The routes of the Responses API: create, read and delete a response."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ...calls import Calls
from ...disconnect import cancel_on_disconnect
from ...event_stream import event_stream
from ...request_bodies import described, off_loop, parsed
from ...request_log import note_usage
from .answers import Answer, Events
from .items import messages_of
from .schemas import ResponsesRequest
from .store import ResponseStore

__all__ = ["responses_routes"]


def responses_routes(calls: Calls, store: ResponseStore | None = None) -> APIRouter:
    """Make the router.

    Args:
        calls: Makes the calls on the backend.
        store: Keeps the responses; None is a new one.
    """
    router = APIRouter()
    kept = ResponseStore() if store is None else store

    @router.post("/v1/responses", openapi_extra=described(ResponsesRequest, "/v1/responses"))
    async def create(
        body: Annotated[ResponsesRequest, parsed(ResponsesRequest)], request: Request
    ) -> Response:
        calls.check_model(body.model)
        keywords = await off_loop(request, partial(body.keywords, calls.llm.context_len))
        dialog = await off_loop(request, partial(_dialog, calls, kept, _owner(request), body))
        system = [{"role": "system", "content": body.instructions}] if body.instructions else []
        answer = Answer(body, calls.model)

        def keep(response: dict[str, Any]) -> None:
            if response["store"]:
                messages = [*dialog, *messages_of(response["output"])]
                kept.keep(_owner(request), response, messages)

        if body.stream:
            stream = await calls.stream(request, [*system, *dialog], keywords)
            return await event_stream(request, stream, Events(answer, keep))
        completion = await cancel_on_disconnect(
            request, calls.complete(request, [*system, *dialog], keywords)
        )
        note_usage(request, completion.usage)
        response = answer.finished(completion)
        keep(response)
        return JSONResponse(response)

    @router.get("/v1/responses/{response_id}")
    async def read(response_id: str, request: Request) -> Response:
        return Response(kept.response(_owner(request), response_id), media_type="application/json")

    @router.delete("/v1/responses/{response_id}")
    async def delete(response_id: str, request: Request) -> dict[str, Any]:
        kept.delete(_owner(request), response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    return router


def _owner(request: Request) -> str:
    """The name of the request's key; '' where the server has one key or none."""
    return getattr(request.state, "key", None) or ""


def _dialog(calls: Calls, store: ResponseStore, owner: str, body: ResponsesRequest) -> list[dict[str, Any]]:
    """The messages of a request, those of the response that it continues first."""
    before = store.messages(owner, body.previous_response_id) if body.previous_response_id else []
    return [*before, *messages_of(body.input, images=calls.takes_images)]
