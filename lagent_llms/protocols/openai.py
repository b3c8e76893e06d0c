"""OpenAI's completions protocol: build request bodies, decode responses with and without streaming. No I/O.

lmdeploy's api_server, `JAXServer` and LoRAX speak it at /v1/completions (a prompt) and /v1/chat/completions
(messages).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..core.request import Request
from ..errors import LLMError, ServerError, StreamInterrupted
from ..http.messages import ResponseHead, is_error_body, read_refusal, server_error, wrong_answer
from ..http.sse import EventSplitter
from ..params import PARAMETERS, CallOptions
from ..schema import FinishReason, Piece, ToolCall, ToolCallDelta, Usage
from ..untrusted import DECODE_ERRORS, read_json
from .finish_reasons import REASONS, is_unfinished, known_reason
from .lenient import SurrogateJoiner, WrongField, has_halves, is_truncated, load_json
from .openai_response import (
    Message,
    Response,
    ToolCallFields,
    decode_response,
    read_leniently,
    token_logprobs,
)
from .openai_response import Usage as UsageFields
from .tool_calls import ToolCallCollector

__all__ = ["CompletionDecoder", "completion_body", "model_names", "read_error", "template_fields"]


#: Parameters that a field carries unchanged: (name, field).
_FIELDS = [(row.name, row.wire) for row in PARAMETERS.values() if row.wire]
#: Parameter that few servers know -> the value that changes nothing, which is not sent.
_NOT_SENT = {row.name: row.no_op for row in PARAMETERS.values() if row.wire and row.opt_in}


def completion_body(
    request: Request,
    model: str,
    *,
    stop: Sequence[str],
    fields: Iterable[tuple[str, str]] = _FIELDS,
    no_top_k: int | None = None,
) -> dict[str, Any]:
    """Build the body of /v1/completions for a prompt, of /v1/chat/completions for messages.

    `response_format` is left to the caller, because servers differ in its forms.

    Args:
        request: The generation.
        model: The server's name of the model or adapter.
        stop: Stop words to send to the server.
        fields: Parameters that a field carries unchanged: (name, field).
        no_top_k: The value of top_k for no filter.
    """
    params, options = request.params, request.options
    if options.sampling == "server":
        fields = [item for item in fields if request.sends(item[0])]
    body: dict[str, Any] = {
        "model": model,
        **{
            wire: value
            for name, wire in fields
            if (value := getattr(params, name)) is not None and value != _NOT_SENT.get(name)
        },
        "stream": options.stream,
    }
    if params.top_k is None and request.sends("top_k"):
        body["top_k"] = no_top_k
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
        ("tool_choice", options.tool_choice),
        ("reasoning_effort", options.reasoning_effort),
    ):
        if value is not None:
            body[name] = value
    return body | template_fields(options)


def template_fields(options: CallOptions) -> dict[str, Any]:
    """The fields of a request that a server's chat template gets beside the messages."""
    fields: dict[str, Any] = {}
    if options.tools:
        fields["tools"] = options.tools
    if options.chat_template_kwargs:
        fields["chat_template_kwargs"] = options.chat_template_kwargs
    if options.continue_final_message:
        fields["continue_final_message"], fields["add_generation_prompt"] = True, False
    return fields


class CompletionDecoder:
    """Decode one response to pieces; see `http.exchange.Decoder`.

    Args:
        head: Head of the response; its label counts where the first bytes do not tell an event stream.
        read_error: Makes the error for a body that is not a completion; None (default) is `read_error`.
    """

    __slots__ = (
        "_content",
        "_events", "_finish_reason", "_halves", "_head", "_read_error", "_refused", "_stop_reason",
        "_tool_calls", "_usage", "alive", "complete",
    )  # fmt: skip

    #: Whether log-probabilities that cannot be read are an error.
    needs_logprobs = False

    def __init__(
        self,
        head: ResponseHead,
        *,
        read_error: Callable[[ResponseHead, bytes, str], LLMError] | None = None,
    ) -> None:
        self.complete = self.alive = False
        self._head = head
        self._read_error = read_error or _read_error
        self._events = EventSplitter(head.is_event_stream, head.limits.event_bytes)
        self._finish_reason: str | None = None
        self._stop_reason: str | None = None
        self._content: str | None = None
        self._usage: Usage | None = None
        self._tool_calls: ToolCallCollector | None = None
        self._refused = False
        self._halves: SurrogateJoiner | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Consume the next bytes and yield the pieces they complete.

        Raises:
            LLMError: An event is an error, or cannot be decoded.
        """
        for event in self._events.feed(data):
            if event == b"[DONE]":
                self.complete = True
                yield self._last()
                return
            if (piece := self._piece(event)) is not None:
                yield piece
                if self.complete:
                    return

    def finish(self) -> Iterator[Piece]:
        """End of the body; yield the last pieces.

        Raises:
            StreamInterrupted: The stream had no finish reason.
            LLMError: The body is an error.
        """
        for event in self._events.finish():
            if not self._events.whole and is_truncated(event):
                break
            if (piece := self._piece(event)) is not None:
                yield piece
                if self.complete:
                    return
        if self._events.whole and self._finish_reason is None:  # a document is complete
            self._finish_reason = "stop" if self._tool_calls is None else "tool_calls"
        yield self._last()

    def _piece(self, data: bytes) -> Piece | None:
        try:
            response = decode_response(data)
        except DECODE_ERRORS:
            if (found := self._read_again(data)) is None:
                return self._last() if self.complete else None
            response = found
        if response.error and _is_error(response.error):
            raise self._read_error(self._head, data, self._head.where)
        if response.usage is not None:
            self._usage = _usage(response.usage) or self._usage
        if not response.choices:
            if self._events.whole or (response.choices is None and response.usage is None):
                self._check_no_choices(data)
            return None
        choice = response.choices[0]
        if choice.index and not self._events.whole:  # a further answer; one was requested
            return None
        if choice.error and _is_error(choice.error):
            body = msgspec.json.encode({"error": choice.error})
            raise self._read_error(self._head, body, self._head.where)
        if (word := choice.finish_reason) and (word in REASONS or not is_unfinished(word)):
            self._finish_reason = word
            if isinstance(choice.stop_reason, str):
                self._stop_reason = choice.stop_reason
            self._content = choice.content_without_calls
        message, deltas = choice.delta or choice.message, None
        if message is None:
            text, reasoning = choice.text, None
        else:
            text, reasoning = message.content, message.reasoning_content or message.reasoning
            if message.tool_calls or message.function_call or message.refusal:
                text, deltas = self._add_others(message)
        if self._halves is not None:
            text = self._halves.feed(text or "")
        if not (text or reasoning or choice.logprobs or deltas is not None):
            self.alive = True
            return None
        logprobs = token_logprobs(choice.logprobs) if choice.logprobs is not None else ()
        if logprobs and word == "stop" and logprobs[-1].token:  # vLLM: perhaps that of the end token
            *others, _ = (item.token for item in logprobs)
            logprobs = logprobs[:-1] if "".join(others) == (text or "") else logprobs
        return Piece(
            text=text or "",
            reasoning=reasoning or "",
            tool_calls=deltas or (),
            token_ids=tuple(choice.gen_tokens or ()),
            n_tokens=self._usage.completion_tokens if self._usage is not None else None,
            logprobs=logprobs,
        )

    def _read_again(self, data: bytes) -> Response | None:
        """Read data that has not the usual types; None if it has no meaning, or is the final marker."""
        where = self._head.where
        marker = data.strip()
        if marker == b"[DONE]":
            self.complete = True
        if not marker and self._events.whole:
            raise wrong_answer(self._head, "it is empty")
        if not marker or self.complete:
            return None
        try:
            found = load_json(data)
        except ValueError:
            raise self._read_error(self._head, data, where) from None
        try:
            response = read_leniently(found, logprobs=self.needs_logprobs)
        except WrongField as error:
            if is_error_body(found):
                raise self._read_error(self._head, data, where) from None
            raise wrong_answer(self._head, str(error)) from None
        for choice in response.choices or ():
            message = choice.delta or choice.message
            text = choice.text if message is None else message.content
            if self._halves is None and has_halves(text or ""):
                self._halves = SurrogateJoiner()
        return response

    def _check_no_choices(self, data: bytes) -> None:
        """Accept an event without choices (metadata, a ping); raise what any other body means."""
        if is_error_body(load_json(data)):
            raise self._read_error(self._head, data, self._head.where)
        if self._events.whole:
            shown = data[:200].decode("utf-8", "replace")
            raise wrong_answer(self._head, f"choices must be a list with the answer, got {shown}")

    def _add_others(self, message: Message) -> tuple[str, tuple[ToolCallDelta, ...] | None]:
        """Collect tool calls.

        Returns:
            The text, which a refusal is as well, and what is new of calls, None without any.
        """
        deltas = None
        if message.tool_calls or message.function_call:
            self._tool_calls = self._tool_calls or ToolCallCollector()
            deltas = self._tool_calls.add(
                message.tool_calls or [ToolCallFields(0, None, message.function_call)]
            )
        self._refused = self._refused or bool(message.refusal)
        return (message.content or "") + (message.refusal or ""), deltas

    def _last(self) -> Piece:
        """The piece that ends the answer."""
        if self._finish_reason is None:
            raise StreamInterrupted(f"{self._head.where}: the stream ended without its final marker")
        reason = self._reason(self._finish_reason)
        native = "" if reason == self._finish_reason else self._finish_reason
        found = self._tool_calls
        return Piece(
            text="" if self._halves is None else self._halves.feed("", final=True),
            finish_reason=reason,
            native_finish_reason="refusal" if self._refused else native,
            stop_word=self._stop_reason,
            content=self._content,
            n_tokens=self._usage.completion_tokens if self._usage is not None else None,
            usage=self._usage,
            tool_calls=() if found is None else tuple([_tool_call(*call) for call in found.result()]),
        )

    def _reason(self, word: str) -> FinishReason:
        reason = REASONS.get(word) or known_reason(word)
        if reason is None:  # the text is not the model's complete answer
            raise ServerError(
                f"{self._head.where}: the server ended the answer with {word!r}",
                status_code=self._head.status,
                code=word,
            )
        return reason


def read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    """Make the error for a response; a numeric error code replaces a status below 300."""
    refusal = read_refusal(body, head)
    status = head.status
    if status < 300 and refusal.code.isdecimal() and 400 <= int(refusal.code) < 600:
        status = int(refusal.code)
    return server_error(status, refusal, where=where, retry_after=head.retry_after)


_read_error = read_error  # for the constructor above, which has an argument of that name


def _is_error(found: Any) -> bool:
    """Whether the value of a field `error` is one: some servers always send the field, with empty values."""
    return not isinstance(found, dict) or any(found.values())


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def model_names(body: bytes) -> list[str]:
    """Decode the body of /v1/models to the names of the models."""
    return [model.id for model in msgspec.json.decode(body, type=_Models).data]


def _usage(usage: UsageFields) -> Usage | None:
    if usage.prompt_tokens is None and usage.completion_tokens is None:
        return None
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached or 0)


def _tool_call(name: str, text: str, identifier: str) -> ToolCall:
    text = text or "{}"
    try:
        arguments: Any = read_json(text)
    except DECODE_ERRORS:
        arguments = None
    if not isinstance(arguments, Mapping):  # the model did not write a JSON object: keep its text
        arguments = {"arguments": text}
    return ToolCall(name, arguments, identifier)
