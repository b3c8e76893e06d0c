"""The routes of Anthropic's Messages API."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ..calls import Calls
from ..disconnect import cancel_on_disconnect
from ..event_stream import event_stream
from ..request_bodies import described, off_loop, parsed
from ..request_log import note_usage
from .answers import Answer, Events
from .blocks import messages_of
from .schemas import CountTokensRequest, MessagesRequest

__all__ = ["anthropic_routes"]


def anthropic_routes(calls: Calls) -> APIRouter:
    """Make the router; `calls` has the backend."""
    router = APIRouter()

    async def dialog(request: Request, body: CountTokensRequest) -> list[dict[str, Any]]:
        calls.check_model(body.model)
        return await off_loop(request, partial(messages_of, body, images=calls.takes_images))

    @router.post("/v1/messages", openapi_extra=described(MessagesRequest, "/v1/messages"))
    async def create(body: Annotated[MessagesRequest, parsed(MessagesRequest)], request: Request) -> Response:
        messages = await dialog(request, body)
        keywords = await off_loop(request, partial(body.keywords, calls.llm.context_len))
        answer = Answer(calls.model, body.stop_sequences or (), request.state.request_id)
        if body.stream:
            stream = await calls.stream(request, messages, keywords)
            return await event_stream(request, stream, Events(answer))
        completion = await cancel_on_disconnect(request, calls.complete(request, messages, keywords))
        note_usage(request, completion.usage)
        return JSONResponse(answer.message(completion))

    @router.post(
        "/v1/messages/count_tokens", openapi_extra=described(CountTokensRequest, "/v1/messages/count_tokens")
    )
    async def count_tokens(
        body: Annotated[CountTokensRequest, parsed(CountTokensRequest)], request: Request
    ) -> dict[str, int]:
        messages = await dialog(request, body)
        keywords = await off_loop(request, body.template_keywords)
        return {"input_tokens": len(await calls.tokenize(request, messages, keywords))}

    return router
