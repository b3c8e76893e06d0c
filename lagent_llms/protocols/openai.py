"""OpenAI's completions protocol: build request bodies, decode responses with and without streaming. No I/O.

lmdeploy's api_server, `JAXServer` and LoRAX speak it at /v1/completions (a prompt) and /v1/chat/completions
(messages).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..core.request import Request
from ..errors import LLMError, ServerError, StreamInterrupted
from ..http.messages import ResponseHead, read_refusal, server_error
from ..http.sse import EventSplitter
from ..params import PARAMETERS
from ..schema import FinishReason, Piece, TokenLogprob, ToolCall, Usage
from ..untrusted import UNREADABLE, read_json

__all__ = ["CompletionDecoder", "completion_body", "model_names", "read_error"]


class _FunctionCall(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # LoRAX sends an object

    def text(self) -> str:
        """The arguments as JSON."""
        if isinstance(self.arguments, dict):
            return msgspec.json.encode(self.arguments).decode()
        return self.arguments or ""


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _FunctionCall = msgspec.field(default_factory=_FunctionCall)


class _Message(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _TopLogprob(msgspec.Struct):
    token: str
    logprob: float


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_TopLogprob] = []


class _Logprobs(msgspec.Struct):
    content: list[_Logprob] | None = None
    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: _Logprobs | None = None
    gen_tokens: list[int] | None = None


class _PromptTokensDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptTokensDetails | None = None


class _Response(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Response).decode

#: Parameters that a field carries unchanged: (name, field).
_FIELDS = [(row.name, row.wire) for row in PARAMETERS.values() if row.wire]


def completion_body(request: Request, model: str, *, stop: Sequence[str]) -> dict[str, Any]:
    """Build the body of /v1/completions for a prompt, of /v1/chat/completions for messages.

    Args:
        request: The generation.
        model: The server's name of the model or adapter.
        stop: Stop words to send to the server.
    """
    params, options = request.params, request.options
    body: dict[str, Any] = {
        "model": model,
        **{wire: value for name, wire in _FIELDS if (value := getattr(params, name)) is not None},
        "stream": options.stream,
    }
    if options.stream:
        body["stream_options"] = {"include_usage": True}
    if stop:
        body["stop"] = list(stop)
    if request.prompt is not None:
        body["prompt"] = request.prompt
        if params.logprobs is not None:
            body["logprobs"] = params.logprobs
        return body
    body["messages"] = request.messages
    if params.logprobs is not None:
        body["logprobs"], body["top_logprobs"] = True, params.logprobs
    for name, value in (
        ("response_format", params.response_format),
        ("tools", options.tools),
        ("tool_choice", options.tool_choice),
    ):
        if value is not None:
            body[name] = value
    return body


class CompletionDecoder:
    """Decode one response to pieces; see `http.exchange.Decoder`.

    Args:
        head: Head of the response; its content type tells whether the body is an event stream.
        where: Path of the request, for error messages.
        read_error: Makes the error for a body that is not a completion; None (default) is `read_error`.
    """

    def __init__(
        self,
        head: ResponseHead,
        where: str = "",
        *,
        read_error: Callable[[ResponseHead, bytes, str], LLMError] | None = None,
    ) -> None:
        self.complete = False
        self._head = head
        self._where = where
        self._read_error = read_error or globals()["read_error"]
        self._events = EventSplitter() if head.is_event_stream else None
        self._body = bytearray()
        self._finish_reason: str | None = None
        self._stop_reason: str | None = None
        self._usage: Usage | None = None
        self._tool_calls: dict[int, _ToolCall] = {}

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Consume the next bytes and yield the pieces they complete.

        Raises:
            LLMError: An event is an error, or cannot be decoded.
        """
        if self._events is None:
            self._body += data
            return
        for event in self._events.feed(data):
            if event == b"[DONE]":
                self.complete = True
                yield self._last()
                return
            if (piece := self._piece(event)) is not None:
                yield piece

    def finish(self) -> Iterator[Piece]:
        """End of the body; yield the last pieces.

        Raises:
            StreamInterrupted: The stream had no finish reason.
            LLMError: The body is an error.
        """
        if self._events is None:
            if (piece := self._piece(bytes(self._body))) is not None:
                yield piece
        elif self._finish_reason is None and self._events.rest.startswith(b"{"):
            # JSON instead of events: lmdeploy's proxy reports errors this way.
            raise self._read_error(self._head, self._events.rest, self._where)
        yield self._last()

    def _piece(self, data: bytes) -> Piece | None:
        try:
            response = _decode(data)
        except UNREADABLE:
            raise self._read_error(self._head, data, self._where) from None
        if response.usage is not None:
            self._usage = _usage(response.usage)
        if not response.choices:
            if response.choices is None and response.usage is None:
                raise self._read_error(self._head, data, self._where)
            return None
        choice = response.choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
            if isinstance(choice.stop_reason, str):
                self._stop_reason = choice.stop_reason
        message = choice.delta or choice.message
        if message is None:
            text, reasoning = choice.text, None
        else:
            text, reasoning = message.content, message.reasoning_content or message.reasoning
            if message.tool_calls:
                self._add_tool_calls(message.tool_calls)
        if not (text or reasoning or choice.logprobs):
            return None
        return Piece(
            text=text or "",
            reasoning=reasoning or "",
            token_ids=tuple(choice.gen_tokens or ()),
            n_tokens=self._usage.completion_tokens if self._usage is not None else None,
            logprobs=_logprobs(choice.logprobs) if choice.logprobs is not None else (),
        )

    def _add_tool_calls(self, calls: list[_ToolCall]) -> None:
        """Merge the deltas of tool calls by their index."""
        for position, call in enumerate(calls):
            index = position if call.index is None else call.index
            known = self._tool_calls.setdefault(index, _ToolCall())
            known.id = known.id or call.id
            known.function.name = known.function.name or call.function.name
            known.function.arguments = known.function.text() + call.function.text()

    def _last(self) -> Piece:
        """The piece that ends the answer."""
        if self._finish_reason is None:
            raise StreamInterrupted(f"{self._where}: the stream ended without its final marker")
        return Piece(
            finish_reason=self._reason(self._finish_reason),
            stop_word=self._stop_reason,
            n_tokens=self._usage.completion_tokens if self._usage is not None else None,
            usage=self._usage,
            tool_calls=tuple(map(_tool_call, self._tool_calls.values())),
        )

    def _reason(self, reason: str) -> FinishReason:
        if reason in ("stop", "length", "tool_calls"):
            return reason  # type: ignore[return-value]
        if reason == "function_call":
            return "tool_calls"
        # 'abort', 'error', 'content_filter': the text is not the model's complete answer
        raise ServerError(f"{self._where}: the server ended the answer with {reason!r}", code=reason)


def read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    """Make the error for a response; a numeric error code replaces a status below 300."""
    refusal = read_refusal(body)
    status = head.status
    if status < 300 and refusal.code.isdecimal() and 400 <= int(refusal.code) < 600:
        status = int(refusal.code)
    return server_error(status, refusal, where=where, retry_after=head.retry_after)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def model_names(body: bytes) -> list[str]:
    """Decode the body of /v1/models to the names of the models."""
    return [model.id for model in msgspec.json.decode(body, type=_Models).data]


def _usage(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, cached or 0)


def _logprobs(logprobs: _Logprobs) -> tuple[TokenLogprob, ...]:
    if logprobs.content is not None:
        return tuple(
            TokenLogprob(
                item.token,
                None,
                item.logprob,
                tuple((top.token, None, top.logprob) for top in item.top_logprobs),
            )
            for item in logprobs.content
        )
    alternatives = logprobs.top_logprobs or [None] * len(logprobs.tokens)
    return tuple(
        TokenLogprob(
            token,
            None,
            float("-inf") if value is None else value,
            tuple((t, None, p) for t, p in (top or {}).items()),
        )
        for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, alternatives, strict=False)
    )


def _tool_call(call: _ToolCall) -> ToolCall:
    text = call.function.text() or "{}"
    try:
        arguments: Any = read_json(text)
    except UNREADABLE:
        arguments = None
    if not isinstance(arguments, Mapping):  # the model did not write a JSON object: keep its text
        arguments = {"arguments": text}
    return ToolCall(call.function.name or "", arguments, call.id or "")
