"""The responses of OpenAI's completions protocol as types, and how other forms of them are read. No I/O.

A response of the usual types is decoded at once (`decode_response`). Any other is read again, field by field
(`read_leniently`): a wrong field that is not needed is left out, one that is needed is named in the error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ..schema import TokenLogprob
from .lenient import WrongField, whole_text

__all__ = [
    "Choice",
    "FunctionCall",
    "Logprobs",
    "Message",
    "Response",
    "ToolCallFields",
    "Usage",
    "decode_response",
    "read_leniently",
    "token_logprobs",
]

T = TypeVar("T")


class FunctionCall(msgspec.Struct):
    """A function and its arguments; in a stream, a part of them. LoRAX sends the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallFields(msgspec.Struct):
    """A tool call, or a part of one."""

    index: int | None = None
    id: str | None = None
    function: FunctionCall | None = None


class Message(msgspec.Struct):
    """A message, or a part of one. `function_call` is the older form of `tool_calls`."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallFields] | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None


class TopLogprob(msgspec.Struct):
    """An alternative to a token."""

    token: str
    logprob: float | None = None


class Logprob(msgspec.Struct):
    """A token of a chat. A logprob of null is minus infinity, which JSON cannot express."""

    token: str
    logprob: float | None = None
    top_logprobs: list[TopLogprob] | None = None


class Logprobs(msgspec.Struct):
    """The tokens of a chat (`content`) or of a completion (the other fields)."""

    content: list[Logprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


class Choice(msgspec.Struct):
    """An answer, or a part of one."""

    index: int | None = None
    text: str | None = None
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Logprobs | None = None
    gen_tokens: list[int] | None = None
    error: Any = None
    content_without_calls: str | None = None


class PromptTokensDetails(msgspec.Struct):
    """Details of `Usage.prompt_tokens`."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class Response(msgspec.Struct):
    """A whole response, or an event of a stream."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


decode_response = msgspec.json.Decoder(Response).decode


def read_leniently(found: object, *, logprobs: bool = False) -> Response:
    """Read a response whose fields do not all have the usual types.

    Args:
        found: The decoded JSON.
        logprobs: Whether log-probabilities are needed.

    Raises:
        WrongField: A field that is needed cannot be used.
    """
    if not isinstance(found, Mapping):
        raise WrongField("the body", "an object", found)
    choices = found.get("choices")
    if not isinstance(choices, (list, type(None))):
        raise WrongField("choices", "a list", choices)
    return Response(
        choices=None
        if choices is None
        else [_choice(item, f"choices[{i}]", logprobs) for i, item in enumerate(choices)],
        usage=_usage(found.get("usage")),
        error=found.get("error"),
    )


def _choice(found: object, path: str, logprobs: bool) -> Choice:
    if not isinstance(found, Mapping):
        raise WrongField(path, "an object", found)
    reason, given = found.get("finish_reason"), found.get("logprobs")
    if isinstance(reason, Mapping):  # sglang: {"type": "stop", …}
        reason = reason.get("type")
    read = _converted(given, Logprobs)
    if logprobs and given and read is None:
        raise WrongField(f"{path}.logprobs", "token log-probabilities", given)
    text, _ = _text(found.get("text"), f"{path}.text")
    return Choice(
        index=_integer(found.get("index")),
        text=text,
        delta=_message(found.get("delta"), f"{path}.delta"),
        message=_message(found.get("message"), f"{path}.message"),
        finish_reason=None if reason is None else str(reason),
        stop_reason=_converted(found.get("stop_reason"), str),
        logprobs=read,
        gen_tokens=_converted(found.get("gen_tokens"), list[int]),
        error=found.get("error"),
    )


def _message(found: object, path: str) -> Message | None:
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise WrongField(path, "an object", found)
    content, thoughts = _text(found.get("content"), f"{path}.content")
    for name in ("reasoning_content", "reasoning"):
        if not thoughts:
            thoughts = "".join(_parts(found.get(name)))
    calls = found.get("tool_calls")
    if not isinstance(calls, (list, type(None))):
        raise WrongField(f"{path}.tool_calls", "a list", calls)
    return Message(
        content=content,
        reasoning_content=whole_text(thoughts),
        tool_calls=[_tool_call(item, f"{path}.tool_calls[{i}]") for i, item in enumerate(calls or ())],
        function_call=_function(found.get("function_call"), f"{path}.function_call"),
        refusal=whole_text("".join(_parts(found.get("refusal")))),
    )


def _text(found: object, path: str) -> tuple[str | None, str]:
    """Return the text of a content, and what of it is reasoning."""
    if found is None or isinstance(found, str):
        return found, ""
    if not (isinstance(found, list) or (isinstance(found, Mapping) and {"type", "text"} & found.keys())):
        raise WrongField(path, "a string or a list of parts", found)
    text: list[str] = []
    thoughts: list[str] = []
    for part in found if isinstance(found, list) else [found]:
        kind = str(part.get("type") or "") if isinstance(part, Mapping) else ""
        (thoughts if "think" in kind or "reason" in kind else text).extend(_parts(part))
    return "".join(text), "".join(thoughts)


def _parts(found: object) -> list[str]:
    """Collect the texts of a part of a content: a string, an object with one, or a list of them."""
    if isinstance(found, str):
        return [found]
    if isinstance(found, list):
        return [text for part in found for text in _parts(part)]
    if isinstance(found, Mapping):
        names = ("text", "thinking", "reasoning", "refusal", "content", "summary")
        return next((texts for name in names if (texts := _parts(found.get(name)))), [])
    return []


def _tool_call(found: object, path: str) -> ToolCallFields:
    if not isinstance(found, Mapping):
        raise WrongField(path, "an object", found)
    identifier = found.get("id")
    return ToolCallFields(
        _integer(found.get("index")),
        None if identifier is None else whole_text(str(identifier)),
        _function(found.get("function"), f"{path}.function"),
    )


def _function(found: object, path: str) -> FunctionCall | None:
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise WrongField(path, "an object", found)
    name, arguments = found.get("name"), found.get("arguments")
    if not isinstance(name, (str, type(None))):
        raise WrongField(f"{path}.name", "a string", name)
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return FunctionCall(name and whole_text(name), arguments and whole_text(arguments))


def _usage(found: object) -> Usage | None:
    if not isinstance(found, Mapping):
        return None
    details = found.get("prompt_tokens_details")
    return Usage(
        _integer(found.get("prompt_tokens")),
        _integer(found.get("completion_tokens")),
        PromptTokensDetails(_integer(details.get("cached_tokens")) if isinstance(details, Mapping) else None),
    )


def _integer(found: object) -> int | None:
    try:
        return int(found) if isinstance(found, (int, float, str)) else None
    except (ValueError, OverflowError):
        return None


def _converted(found: object, kind: type[T]) -> T | None:
    try:
        return None if found is None else msgspec.convert(found, kind, strict=False)
    except (msgspec.ValidationError, OverflowError):
        return None


def _known(logprob: float | None) -> float:
    return float("-inf") if logprob is None else logprob  # JSON has no infinity


def token_logprobs(logprobs: Logprobs) -> tuple[TokenLogprob, ...]:
    """Return the log-probabilities, one entry for each token."""
    if logprobs.content is not None:
        return tuple(
            TokenLogprob(
                item.token,
                None,
                _known(item.logprob),
                tuple((top.token, None, _known(top.logprob)) for top in item.top_logprobs or ()),
            )
            for item in logprobs.content
        )
    tokens = logprobs.tokens or []
    alternatives = logprobs.top_logprobs or [None] * len(tokens)
    return tuple(
        TokenLogprob(
            token,
            None,
            _known(value),
            tuple((t, None, _known(p)) for t, p in (top or {}).items()),
        )
        for token, value, top in zip(tokens, logprobs.token_logprobs or (), alternatives, strict=False)
    )
