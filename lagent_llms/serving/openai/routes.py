"""OpenAI-compatible routes over any `AsyncBaseLLM`, and vLLM's /tokenize."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ... import validators
from ...core.base import AsyncBaseLLM
from ...core.streams import AsyncStream
from ...errors import NotFound, UnsupportedParameter
from ...schema import Completion, StreamChunk
from ...templates.injection import escaped_prompt
from ..disconnect import Injection, call_keywords, cancel_on_disconnect
from ..limits import Limits
from ..request_bodies import described, off_loop, parsed
from ..request_log import error_event, logged_response
from .responses import chat_chunks, chat_response, completion_chunks, completion_response, usage_of
from .schemas import ChatCompletionRequest, CompletionRequest, TokenizeRequest

__all__ = ["openai_routes"]

#: Prompts of one request that are completed at once if the backend itself sets no number.
_CONCURRENCY = 64
#: `chat_chunks` or `completion_chunks`.
_MakeChunks = Callable[..., list[dict[str, Any]]]


def openai_routes(
    llm: AsyncBaseLLM, model: str, *, injection: Injection | None = None, seconds: float | None = None
) -> APIRouter:
    """Make the router.

    Args:
        llm: The backend.
        model: Its model name; a request for another model gets 404.
        injection: See `call_keywords`.
        seconds: See `call_keywords`.
    """
    router = APIRouter()
    fixed = call_keywords(llm, injection, seconds)
    created = int(time.time())

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(model, created)]}

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        _check_model(name, model)
        return _model_card(model, created)

    @router.post("/v1/completions", openapi_extra=described(CompletionRequest, "/v1/completions"))
    async def completions(
        body: Annotated[CompletionRequest, parsed(CompletionRequest)], request: Request
    ) -> Response:
        _check_model(body.model, model)
        prompts = await off_loop(request, body.prompts)
        keywords = await off_loop(request, partial(body.keywords, llm.context_len)) | fixed
        envelope = _envelope("cmpl", model)
        if body.stream:
            stream = await off_loop(request, partial(llm.stream_generate, prompts[0], **keywords))
            return await _stream_response(
                request, stream, envelope, completion_chunks, usage=body.include_usage
            )
        limits: Limits = request.app.state.limits
        with limits.count_prompts(len(prompts)):
            completions = await cancel_on_disconnect(request, _complete_all(request, llm, prompts, keywords))
        body_of_all = completion_response(envelope, completions)
        request.state.usage = body_of_all["usage"]
        return JSONResponse(body_of_all)

    @router.post(
        "/v1/chat/completions", openapi_extra=described(ChatCompletionRequest, "/v1/chat/completions")
    )
    async def chat(
        body: Annotated[ChatCompletionRequest, parsed(ChatCompletionRequest)], request: Request
    ) -> Response:
        _check_model(body.model, model)
        messages = await off_loop(request, body.text_messages)
        keywords = await off_loop(request, partial(body.keywords, llm.context_len)) | fixed
        envelope = _envelope("chatcmpl", model)
        if body.stream:
            stream = await off_loop(request, partial(llm.stream_chat, messages, **keywords))
            chunks = partial(chat_chunks, calls_in_content=body.calls_in_content)
            return await _stream_response(request, stream, envelope, chunks, usage=body.include_usage)
        completion = await cancel_on_disconnect(request, _complete(request, llm, messages, keywords))
        request.state.usage = usage_of(completion.usage)
        return JSONResponse(chat_response(envelope, completion, calls_in_content=body.calls_in_content))

    @router.post("/tokenize", openapi_extra=described(TokenizeRequest, "/tokenize"))
    async def tokenize(
        body: Annotated[TokenizeRequest, parsed(TokenizeRequest)], request: Request
    ) -> dict[str, Any]:
        _check_model(body.model or model, model)
        tokens = await llm.tokenize(await off_loop(request, partial(_prompt_to_tokenize, llm, body, fixed)))
        return {"tokens": tokens, "count": len(tokens), "max_model_len": llm.context_len}

    return router


async def _complete(request: Request, llm: AsyncBaseLLM, inputs: Any, keywords: dict[str, Any]) -> Completion:
    stream = await off_loop(request, partial(llm.raising_stream, inputs, keywords))
    return await stream.drain()


async def _complete_all(
    request: Request, llm: AsyncBaseLLM, prompts: list[str], keywords: dict[str, Any]
) -> list[Completion]:
    """Complete `prompts`, at most ``llm.max_concurrency`` at once; the first failure cancels the others."""
    most = llm.max_concurrency
    semaphore = asyncio.Semaphore(_CONCURRENCY if most == "auto" else most)

    async def complete(prompt: str) -> Completion:
        async with semaphore:
            return await _complete(request, llm, prompt, keywords)

    tasks = [asyncio.ensure_future(complete(prompt)) for prompt in prompts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _prompt_to_tokenize(llm: AsyncBaseLLM, body: TokenizeRequest, fixed: dict[str, Any]) -> str:
    request = llm.prepare(body.inputs(), {"tools": body.tools, **body.template_keywords(), **fixed}).request
    if request.prompt is None:
        raise UnsupportedParameter(
            "messages: cannot be tokenized here, because the remote server applies the chat template; "
            "send prompt instead",
            parameter="messages",
        )
    llm.check_prompt_size(request.prompt)
    return escaped_prompt(request.prompt)


async def _stream_response(
    request: Request, stream: AsyncStream, envelope: dict[str, Any], chunks: _MakeChunks, *, usage: bool
) -> StreamingResponse:
    """Respond with server-sent events, once the first chunk is there: an error before it sets the status."""
    try:
        first = await cancel_on_disconnect(request, stream.__anext__())
    except BaseException:  # a cancellation too: the generation must not go on
        stream.close()
        raise
    events = _events(request, first, stream, envelope, chunks, usage=usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _events(
    request: Request,
    first: StreamChunk,
    stream: AsyncStream,
    envelope: dict[str, Any],
    chunks: _MakeChunks,
    *,
    usage: bool,
) -> AsyncIterator[str]:
    try:
        for item in chunks(envelope, first, first=True):
            yield _event(item)
        async for chunk in stream:
            for item in chunks(envelope, chunk, first=False):
                yield _event(item)
        if stream.completion is not None:
            request.state.usage = usage_of(stream.completion.usage)
        if usage and stream.completion is not None:
            kind = "text_completion" if chunks is completion_chunks else "chat.completion.chunk"
            yield _event({**envelope, "object": kind, "choices": [], "usage": request.state.usage})
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001  (the status was already sent: the error is the last event)
        yield error_event(logged_response(error, request.state.request_id))
    finally:
        stream.close()


def _event(item: dict[str, Any]) -> str:
    return f"data: {json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _envelope(prefix: str, model: str) -> dict[str, Any]:
    """The fields that all objects of one response share."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def _model_card(model: str, created: int) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": created, "owned_by": "lagent_llms"}


def _check_model(requested: str, model: str) -> None:
    if requested != model:
        raise NotFound(
            f"model={validators.shown(requested)}: this server's only model is {model!r}",
            code="model_not_found",
        )
