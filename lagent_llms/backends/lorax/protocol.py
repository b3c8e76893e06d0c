"""Build LoRAX calls from a `Request` and decode responses to pieces. No I/O.

Prompts go to LoRAX's own route, messages to /v1/chat/completions, where the server applies its template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec

from ...core.request import Request
from ...errors import ServerError
from ...http.exchange import Call
from ...http.messages import HTTPRequest, ResponseHead
from ...lorax.protocol import EventDecoder, post_call, read_error, stream_call
from ...lorax.request_types import MergedAdapters
from ...lorax.response_format import response_format
from ...lorax.response_types import (
    Details,
    SimpleToken,
    StreamDetails,
    StreamResponse,
    Token,
)
from ...lorax.response_types import FinishReason as LoRAXFinishReason
from ...lorax.result_forms import read_result
from ...params import PARAMETERS
from ...protocols.finish_reasons import known_reason
from ...protocols.openai import CompletionDecoder, completion_body
from ...schema import FinishReason, Piece, TokenLogprob, Usage

__all__ = ["Adapter", "answer_call", "token_ids_call"]

_WORDS = frozenset(LoRAXFinishReason)
_decode_event = msgspec.json.Decoder(StreamResponse).decode
_decode_tokens = msgspec.json.Decoder(list[SimpleToken]).decode


@dataclass(frozen=True, slots=True)
class Adapter:
    """The adapter of a request.

    Attributes:
        adapter_id: Adapter id; None for the base model.
        adapter_source: Source of the adapter: 'hub', 'local', 's3' or 'pbase'; None is the server's default.
        merged: Several adapters to merge, instead of adapter_id.
        api_token: Token for private adapters.
    """

    adapter_id: str | None = None
    adapter_source: str | None = None
    merged: MergedAdapters | None = None
    api_token: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        return () if self.api_token is None else (self.api_token,)

    def fields(self) -> dict[str, Any]:
        """The request fields that are set."""
        given = {
            "adapter_id": self.adapter_id,
            "adapter_source": self.adapter_source,
            "merged_adapters": None if self.merged is None else self.merged.model_dump(exclude_none=True),
            "api_token": self.api_token,
        }
        return {name: value for name, value in given.items() if value is not None}


def answer_call(
    request: Request, adapter: Adapter, model: str, *, stop: Sequence[str], bos: str
) -> Call[Piece]:
    """Build the call for `request`.

    Args:
        request: The generation.
        adapter: The adapter; merged adapters need a prompt, not messages.
        model: Name of the base model, '' if unknown; used for messages.
        stop: Stop words to send to the server.
        bos: The template's BOS, removed from the prompt because the server adds the tokenizer's.
    """
    if request.prompt is None:
        return _chat_call(request, adapter.adapter_id or model, adapter, stop)
    body = {
        "inputs": request.prompt.removeprefix(bos),
        "parameters": {**_parameters(request, stop), **adapter.fields()},
        "stream": request.options.stream,
    }
    decoder = _PieceDecoder(request)
    if not request.options.stream:
        return post_call("", body, decoder.decode_response, adapter.secrets)
    return stream_call("", body, partial(EventDecoder, decoder.decode_event, _is_last), adapter.secrets)


def token_ids_call(text: str, *, bos: str) -> Call[list[int]]:
    """Build the call that returns the token ids of `text`, with a BOS."""
    body = {"inputs": text.removeprefix(bos), "add_special_tokens": True}
    return post_call("/tokenize", body, lambda head, data: [token.id for token in _decode_tokens(data)])


def _parameters(request: Request, stop: Sequence[str]) -> dict[str, Any]:
    params = request.params
    found: dict[str, Any] = {
        "details": True,
        "return_full_text": False,  # some servers' default is True
        "stop": list(stop),
        **_sampling(request),
    }
    for name, wire in (("max_new_tokens", "max_new_tokens"), ("ignore_eos", "ignore_eos_token")):
        if request.sends(name):
            found[wire] = getattr(params, name)
    if params.logprobs:
        found["return_k_alternatives"] = params.logprobs
    if params.response_format is not None:
        found["response_format"] = response_format(params.response_format).model_dump(exclude_none=True)
    return found


def _sampling(request: Request) -> dict[str, Any]:
    """The sampling parameters that differ from their no-op values; any other makes the server sample."""
    params = request.params
    found: dict[str, Any] = {}
    names = ["repetition_penalty", "frequency_penalty", "presence_penalty"]
    if request.sends("temperature"):
        found["do_sample"] = params.temperature != 0
        if params.temperature != 0:
            found["temperature"] = params.temperature
    if params.temperature != 0:
        names += ["top_k", "top_p", "seed"]
    for name in names:
        value = getattr(params, name)
        if request.sends(name) and not PARAMETERS[name].is_no_op(value):
            found[name] = value
    return found


class _PieceDecoder:
    """Decode one response to pieces. The end token is not part of the answer and is left out everywhere."""

    def __init__(self, request: Request) -> None:
        self._stop_words = request.stop_words
        self._skip_special = request.params.skip_special_tokens
        self._top = request.params.logprobs
        self._count = 0

    def decode_event(self, data: bytes) -> Piece:
        """Decode one event of a stream."""
        response = _decode_event(data)
        if response.generated_text is None and response.details is None:
            return self._piece(response.token)
        return self._last(response.token, response.details)

    def decode_response(self, head: ResponseHead, body: bytes) -> Piece:
        """Decode a response that is not streamed.

        Raises:
            msgspec.DecodeError: The body is not a result with details.
        """
        details = read_result(head, body).details
        if details is None or not details.tokens:
            raise msgspec.ValidationError("the response has no details")
        *tokens, last = details.tokens
        pieces = [*map(self._piece, tokens), self._last(last, details)]
        return replace(
            pieces[-1],
            text="".join(piece.text for piece in pieces),
            token_ids=tuple(token for piece in pieces for token in piece.token_ids),
            logprobs=tuple(item for piece in pieces for item in piece.logprobs),
        )

    def _piece(self, token: Token) -> Piece:
        self._count += 1
        return Piece(
            text="" if self._skip_special and token.special else token.text,
            token_ids=(token.id,),
            n_tokens=self._count,
            logprobs=() if self._top is None else (self._logprob(token, self._top),),
        )

    def _last(self, token: Token, details: StreamDetails | Details | None) -> Piece:
        word = LoRAXFinishReason.StopSequence if details is None else details.finish_reason
        ended = word is LoRAXFinishReason.EndOfSequenceToken or (word not in _WORDS and token.special)
        piece = Piece() if ended else self._piece(token)
        if (reason := known_reason(word.value)) is None:
            raise ServerError(f"the server ended the answer with {word.value!r}", code=word.value)
        return replace(
            piece,
            n_tokens=self._count,
            finish_reason=reason,
            native_finish_reason="" if word.value == reason else word.value,
            stop_word=token.text if ended and token.text in self._stop_words else None,
            usage=None if details is None else Usage(details.prompt_tokens, self._count),
        )

    @staticmethod
    def _logprob(token: Token, top: int) -> TokenLogprob:
        def known(value: float | None) -> float:
            return float("-inf") if value is None else value

        others = {
            item.id: (item.text, item.id, known(item.logprob)) for item in token.alternative_tokens or ()
        }
        chosen = (token.text, token.id, known(token.logprob))
        ranked = sorted({**others, token.id: chosen}.values(), key=lambda item: -item[2])
        return TokenLogprob(*chosen, tuple(ranked[:top]))


def _is_last(piece: Piece) -> bool:
    return piece.finish_reason is not None


def _chat_call(request: Request, model: str, adapter: Adapter, stop: Sequence[str]) -> Call[Piece]:
    params, options = request.params, request.options
    body = completion_body(request, model, stop=stop)
    for name in (
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "repetition_penalty",
        "ignore_eos",
        "skip_special_tokens",
    ):
        body.pop(name, None)
    # The server includes special tokens in streamed text only, and reports tool calls only without streaming.
    body["stream"] = not (params.skip_special_tokens or options.tools)
    body.pop("stream_options", None)
    greedy = params.temperature == 0  # without temperature=0 the server samples
    body |= {**_sampling(request), **({"temperature": 0} if greedy else {})}
    if request.sends("ignore_eos"):
        body["ignore_eos_token"] = params.ignore_eos
    body.pop("do_sample", None)
    if params.response_format is not None:
        body["response_format"] = response_format(params.response_format).model_dump(exclude_none=True)
    body |= {name: value for name, value in adapter.fields().items() if name != "adapter_id"}
    path = "/v1/chat/completions"
    decoder: Callable[[ResponseHead], CompletionDecoder] = partial(_ChatDecoder, read_error=read_error)
    return Call(HTTPRequest.json(path, body), decoder, read_error, adapter.secrets)


class _ChatDecoder(CompletionDecoder):
    """`CompletionDecoder` for LoRAX's finish reasons and token counts."""

    def _last(self) -> Piece:
        piece = super()._last()
        if self._finish_reason != "stop" or piece.usage is None:
            return piece
        # The server counts the end token, which is not part of the answer.
        usage = replace(piece.usage, completion_tokens=max(0, piece.usage.completion_tokens - 1))
        return replace(piece, usage=usage, n_tokens=usage.completion_tokens)

    def _reason(self, reason: str) -> FinishReason:
        # LoRAX reports a stop sequence as 'content_filter'.
        return "stop" if reason == "content_filter" else super()._reason(reason)
