"""OpenAI-compatible routes over any `AsyncBaseLLM`, and vLLM's /tokenize."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ...schema import Completion, StreamChunk
from ..calls import Calls
from ..disconnect import cancel_on_disconnect
from ..error_responses import ErrorResponse
from ..event_stream import event, event_stream
from ..limits import Limits
from ..request_bodies import described, off_loop, parsed
from ..request_log import error_event, note_usage
from .responses import chat_chunks, chat_response, completion_chunks, completion_response, usage_of
from .schemas import ChatCompletionRequest, CompletionRequest, TokenizeRequest

__all__ = ["openai_routes"]

#: Prompts of one request that are completed at once if the backend itself sets no number.
_CONCURRENCY = 64
#: `chat_chunks` or `completion_chunks`.
_MakeChunks = Callable[..., list[dict[str, Any]]]


def openai_routes(calls: Calls) -> APIRouter:
    """Make the router; `calls` has the backend."""
    router = APIRouter()
    llm, model = calls.llm, calls.model
    created = int(time.time())

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(model, created)]}

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        calls.check_model(name)
        return _model_card(model, created)

    @router.post("/v1/completions", openapi_extra=described(CompletionRequest, "/v1/completions"))
    async def completions(
        body: Annotated[CompletionRequest, parsed(CompletionRequest)], request: Request
    ) -> Response:
        calls.check_model(body.model)
        prompts = await off_loop(request, body.prompts)
        keywords = await off_loop(request, partial(body.keywords, llm.context_len))
        envelope = _envelope("cmpl", model)
        if body.stream:
            stream = await calls.stream(request, prompts[0], keywords)
            encoder = _Chunks(envelope, completion_chunks, usage=body.include_usage)
            return await event_stream(request, stream, encoder)
        limits: Limits = request.app.state.limits
        with limits.count_prompts(len(prompts)):
            completions = await cancel_on_disconnect(
                request, _complete_all(request, calls, prompts, keywords)
            )
        body_of_all = completion_response(envelope, completions)
        request.state.usage = body_of_all["usage"]
        return JSONResponse(body_of_all)

    @router.post(
        "/v1/chat/completions", openapi_extra=described(ChatCompletionRequest, "/v1/chat/completions")
    )
    async def chat(
        body: Annotated[ChatCompletionRequest, parsed(ChatCompletionRequest)], request: Request
    ) -> Response:
        calls.check_model(body.model)
        messages = await off_loop(request, body.text_messages)
        keywords = await off_loop(request, partial(body.keywords, llm.context_len))
        envelope = _envelope("chatcmpl", model)
        if body.stream:
            stream = await calls.stream(request, messages, keywords)
            chunks = partial(chat_chunks, calls_in_content=body.calls_in_content)
            encoder = _Chunks(envelope, chunks, usage=body.include_usage)
            return await event_stream(request, stream, encoder)
        completion = await cancel_on_disconnect(request, calls.complete(request, messages, keywords))
        note_usage(request, completion.usage)
        return JSONResponse(chat_response(envelope, completion, calls_in_content=body.calls_in_content))

    @router.post("/tokenize", openapi_extra=described(TokenizeRequest, "/tokenize"))
    async def tokenize(
        body: Annotated[TokenizeRequest, parsed(TokenizeRequest)], request: Request
    ) -> dict[str, Any]:
        calls.check_model(body.model or model)
        inputs = await off_loop(request, body.inputs)
        keywords = {"tools": body.tools, **body.template_keywords()}
        tokens = await calls.tokenize(request, inputs, keywords, "; send prompt instead")
        return {"tokens": tokens, "count": len(tokens), "max_model_len": llm.context_len}

    return router


async def _complete_all(
    request: Request, calls: Calls, prompts: list[str], keywords: dict[str, Any]
) -> list[Completion]:
    """Complete `prompts`, at most ``llm.max_concurrency`` at once; the first failure cancels the others."""
    most = calls.llm.max_concurrency
    semaphore = asyncio.Semaphore(_CONCURRENCY if most == "auto" else most)

    async def complete(prompt: str) -> Completion:
        async with semaphore:
            return await calls.complete(request, prompt, keywords)

    tasks = [asyncio.ensure_future(complete(prompt)) for prompt in prompts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Chunks:
    """Writes a stream as chunks of a completion.

    Args:
        envelope: The fields that all chunks share.
        chunks: Makes the chunks of one step.
        usage: True if the last chunk has the token counts.
    """

    def __init__(self, envelope: dict[str, Any], chunks: _MakeChunks, *, usage: bool) -> None:
        self._envelope, self._chunks, self._usage = envelope, chunks, usage
        self._first = True

    def chunk(self, chunk: StreamChunk) -> Iterator[str]:
        """See `Encoder.chunk`."""
        first, self._first = self._first, False
        for item in self._chunks(self._envelope, chunk, first=first):
            yield event(item)

    def end(self, completion: Completion) -> Iterator[str]:
        """See `Encoder.end`."""
        if self._usage:
            kind = "text_completion" if self._chunks is completion_chunks else "chat.completion.chunk"
            yield event(
                {**self._envelope, "object": kind, "choices": [], "usage": usage_of(completion.usage)}
            )
        yield "data: [DONE]\n\n"

    def error(self, response: ErrorResponse) -> str:
        """See `Encoder.error`."""
        return error_event(response)


def _envelope(prefix: str, model: str) -> dict[str, Any]:
    """The fields that all objects of one response share."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def _model_card(model: str, created: int) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": created, "owned_by": "lagent_llms"}
