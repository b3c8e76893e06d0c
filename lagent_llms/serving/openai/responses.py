"""Response objects in OpenAI's format: whole completions and stream chunks. Pure.

In every function, `envelope` holds the fields that all objects of one response share: id, created, model. The
content of a chat has no tool calls in it, unless `calls_in_content`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...schema import Completion, StreamChunk, TokenLogprob, ToolCallDelta, Usage

__all__ = ["chat_chunks", "chat_response", "completion_chunks", "completion_response", "usage_of"]

#: OpenAI's value for a token of probability 0: JSON has no infinity.
_MIN_LOGPROB = -9999.0


def usage_of(*usages: Usage | None) -> dict[str, Any] | None:
    """The summed token counts of completions; None if the backend reported none."""
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    prompt_tokens = sum(usage.prompt_tokens for usage in known)
    completion_tokens = sum(usage.completion_tokens for usage in known)
    cached_tokens = sum(usage.cached_tokens or 0 for usage in known)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


def chat_response(
    envelope: dict[str, Any], completion: Completion, *, calls_in_content: bool = False
) -> dict[str, Any]:
    """The response object of /v1/chat/completions."""
    content = completion.text if calls_in_content else completion.content
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if completion.reasoning:
        message["reasoning_content"] = completion.reasoning
    if completion.tool_calls:
        message["content"] = content or None
        message["tool_calls"] = [
            _tool_call(
                envelope, index, call.id, call.name, json.dumps(dict(call.arguments), ensure_ascii=False)
            )
            for index, call in enumerate(completion.tool_calls)
        ]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_word,
        "logprobs": _chat_logprobs(completion.logprobs),
        **_content_beside(completion, calls_in_content),
    }
    return {**envelope, "object": "chat.completion", "choices": [choice], "usage": usage_of(completion.usage)}


def chat_chunks(
    envelope: dict[str, Any], chunk: StreamChunk, *, first: bool, calls_in_content: bool = False
) -> list[dict[str, Any]]:
    """The ``chat.completion.chunk`` objects for one `StreamChunk`."""
    deltas: list[dict[str, Any]] = []
    if chunk.reasoning:
        deltas.append({"reasoning_content": chunk.reasoning})
    if content := chunk.delta if calls_in_content else chunk.content:
        deltas.append({"content": content})
    if chunk.tool_calls:
        deltas.append({"tool_calls": [_tool_call_delta(envelope, delta) for delta in chunk.tool_calls]})
    if first:
        deltas[:1] = [{"role": "assistant", "content": "", **(deltas[0] if deltas else {})}]
    end = chunk.completion
    if end is not None:
        deltas.append({})
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    if chunk.logprobs:
        choices = choices or [{"index": 0, "delta": {}, "finish_reason": None}]
        choices[-1]["logprobs"] = _chat_logprobs(chunk.logprobs)
    if end is not None:
        choices[-1] |= {"finish_reason": end.finish_reason, "stop_reason": end.stop_word}
        choices[-1] |= _content_beside(end, calls_in_content)
    return [{**envelope, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]


def _content_beside(completion: Completion, calls_in_content: bool) -> dict[str, str]:
    """The content without the tool calls that are in it."""
    needed = calls_in_content and completion.tool_calls
    return {"content_without_calls": completion.content} if needed else {}


def completion_response(envelope: dict[str, Any], completions: list[Completion]) -> dict[str, Any]:
    """The response object of /v1/completions."""
    choices = [
        {
            "index": index,
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "stop_reason": completion.stop_word,
            "logprobs": _completion_logprobs(completion.logprobs),
        }
        for index, completion in enumerate(completions)
    ]
    usage = usage_of(*(completion.usage for completion in completions))
    return {**envelope, "object": "text_completion", "choices": choices, "usage": usage}


def completion_chunks(envelope: dict[str, Any], chunk: StreamChunk, *, first: bool) -> list[dict[str, Any]]:
    """The ``text_completion`` stream objects for one `StreamChunk`."""
    end = chunk.completion
    if not (chunk.delta or end or first):
        return []
    choice: dict[str, Any] = {"index": 0, "text": chunk.delta, "finish_reason": None}
    choice["logprobs"] = _completion_logprobs(chunk.logprobs)
    if end is not None:
        choice |= {"finish_reason": end.finish_reason, "stop_reason": end.stop_word}
    return [{**envelope, "object": "text_completion", "choices": [choice]}]


def _json(arguments: Mapping[str, Any]) -> str:
    return json.dumps(dict(arguments), ensure_ascii=False)


def _tool_call(
    envelope: dict[str, Any], index: int, identifier: str, name: str, arguments: str
) -> dict[str, Any]:
    return {
        "id": identifier or _made_id(envelope, index),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _tool_call_delta(envelope: dict[str, Any], delta: ToolCallDelta) -> dict[str, Any]:
    """The part of a tool call; the one with the name has the id and the type as well."""
    if delta.name:
        call = _tool_call(envelope, delta.index, delta.id, delta.name, delta.arguments)
        return {"index": delta.index, **call}
    return {"index": delta.index, "function": {"arguments": delta.arguments}}


def _made_id(envelope: dict[str, Any], index: int) -> str:
    """The id of a call that has none: clients find a call's result by it, so it differs between answers."""
    return f"call_{envelope.get('id', '')[-12:]}_{index}"


def _chat_logprobs(items: tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": _finite(logprob), "bytes": list(token.encode())}

    if not items:
        return None
    content = [
        entry(item.token, item.logprob)
        | {"top_logprobs": [entry(token, value) for token, _, value in item.top]}
        for item in items
    ]
    return {"content": content, "refusal": None}


def _completion_logprobs(items: tuple[TokenLogprob, ...]) -> dict[str, Any] | None:
    if not items:
        return None
    offsets, end = [], 0
    for item in items:
        offsets.append(end)
        end += len(item.token)
    return {
        "tokens": [item.token for item in items],
        "token_logprobs": [_finite(item.logprob) for item in items],
        "top_logprobs": [{token: _finite(value) for token, _, value in item.top} for item in items],
        "text_offset": offsets,
    }


def _finite(logprob: float) -> float:
    return logprob if logprob > _MIN_LOGPROB else _MIN_LOGPROB
