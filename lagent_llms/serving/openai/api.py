"""OpenAI-style routes over any `AsyncBaseLLM`, and vLLM's /tokenize."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ...core.base import AsyncBaseLLM
from ...core.streams import AsyncStream
from ...errors import LLMError, NotFound, UnsupportedParameter
from ...schema import Completion, StreamChunk
from ..disconnect import call_keywords, cancel_on_disconnect
from ..error_responses import error_body, error_status
from ..limits import Limits
from .answers import chat_answer, chat_chunks, completion_answer, completion_chunks, usage_of
from .models import ChatBody, CompletionBody, TokenizeBody

__all__ = ["openai_routes"]

_Chunks = Callable[..., list[dict[str, Any]]]


def openai_routes(llm: AsyncBaseLLM, model: str) -> APIRouter:
    """The routes.

    Args:
        llm: Who answers.
        model: The name it goes by; a request for another one is 404.
    """
    router = APIRouter()
    always = call_keywords(llm)
    created = int(time.time())

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(model, created)]}

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        _check_model(name, model)
        return _model_card(model, created)

    @router.post("/v1/completions")
    async def completions(body: CompletionBody, request: Request) -> Response:
        _check_model(body.model, model)
        prompts, given, base = body.prompts(), body.keywords(llm.context_len) | always, _base("cmpl", model)
        if body.stream:
            stream = llm.stream_generate(prompts[0], **given)
            return await _streamed(request, stream, base, completion_chunks, usage=body.usage_in_stream)
        limits: Limits = request.app.state.limits
        with limits.counting(len(prompts)):
            completions = await cancel_on_disconnect(request, _completions(llm, prompts, given))
        return JSONResponse(completion_answer(base, completions))

    @router.post("/v1/chat/completions")
    async def chat(body: ChatBody, request: Request) -> Response:
        _check_model(body.model, model)
        dialog, given, base = body.dialog(), body.keywords(llm.context_len) | always, _base("chatcmpl", model)
        if body.stream:
            stream = llm.stream_chat(dialog, **given)
            return await _streamed(request, stream, base, chat_chunks, usage=body.usage_in_stream)
        completion: Completion = await cancel_on_disconnect(request, llm.complete(dialog, **given))
        return JSONResponse(chat_answer(base, completion))

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> dict[str, Any]:
        _check_model(body.model or model, model)
        tokens = await llm.tokenize(_prompt_of(llm, body, always))
        return {"tokens": tokens, "count": len(tokens), "max_model_len": llm.context_len}

    return router


async def _completions(llm: AsyncBaseLLM, prompts: list[str], given: dict[str, Any]) -> list[Completion]:
    """The answers to `prompts`, as many at once as `llm` allows. One that fails ends the others."""
    gate = asyncio.Semaphore(llm.max_concurrency)

    async def complete(prompt: str) -> Completion:
        async with gate:
            return await llm.complete(prompt, **given)

    running = [asyncio.ensure_future(complete(prompt)) for prompt in prompts]
    try:
        return await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _prompt_of(llm: AsyncBaseLLM, body: TokenizeBody, always: dict[str, Any]) -> str:
    request = llm.prepare(body.inputs(), {"tools": body.tools, **always}).request
    if request.prompt is None:
        raise UnsupportedParameter(
            "messages cannot be counted: the template is that of another server", parameter="messages"
        )
    return request.prompt


async def _streamed(
    request: Request, stream: AsyncStream, base: dict[str, Any], chunks: _Chunks, *, usage: bool
) -> StreamingResponse:
    """The events of `stream`. Its first step is taken before the status is sent, so that it can refuse."""
    try:
        first = await cancel_on_disconnect(request, stream.__anext__())
    except BaseException:
        stream.close()
        raise
    events = _events(first, stream, base, chunks, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _events(
    first: StreamChunk, stream: AsyncStream, base: dict[str, Any], chunks: _Chunks, *, usage: bool
) -> AsyncIterator[str]:
    try:
        for item in chunks(base, first, first=True):
            yield _event(item)
        async for chunk in stream:
            for item in chunks(base, chunk, first=False):
                yield _event(item)
        if usage and stream.completion is not None:
            kind = "text_completion" if chunks is completion_chunks else "chat.completion.chunk"
            yield _event({**base, "object": kind, "choices": [], "usage": usage_of(stream.completion.usage)})
        yield "data: [DONE]\n\n"
    except LLMError as error:  # the status is sent already: the error goes into the stream
        status, code = error_status(error)
        yield _event(error_body(status, str(error), code))
    finally:
        stream.close()


def _event(item: dict[str, Any]) -> str:
    return f"data: {json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _base(prefix: str, model: str) -> dict[str, Any]:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def _model_card(model: str, created: int) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": created, "owned_by": "lagent_llms"}


def _check_model(asked: str, model: str) -> None:
    if asked != model:
        raise NotFound(f"there is no model {asked!r}; there is {model!r}", code="model_not_found")
