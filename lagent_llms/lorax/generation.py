"""A `Request` as LoRAX takes it, and its answers as pieces. Pure; the backends send these.

A prompt goes to LoRAX's own route, messages to /v1/chat/completions, where the server applies its template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from ..core.request import Request
from ..http.exchange import Call
from ..http.messages import HTTPRequest, ResponseHead
from ..params import PARAMETERS
from ..protocols.openai import CompletionDecoder, completion_body
from ..schema import FinishReason, Piece, TokenLogprob, Usage
from . import answers
from .answers import Details, Response, StreamResponse, Token
from .parameters import MergedAdapters
from .protocol import EventDecoder, Secrets, error_reader, post_call, stream_call
from .response_format import response_format

__all__ = ["Adapter", "answer_call", "token_ids_call"]

_decode_event = msgspec.json.Decoder(StreamResponse).decode
_decode_tokens = msgspec.json.Decoder(list[answers.SimpleToken]).decode


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a request runs on.

    Attributes:
        adapter_id: The adapter, None for the base model.
        adapter_source: Where it is from.
        merged: Several made into one, in place of adapter_id.
        api_token: For private adapters.
    """

    adapter_id: str | None = None
    adapter_source: str | None = None
    merged: MergedAdapters | None = None
    api_token: str | None = None

    def fields(self) -> dict[str, Any]:
        """Those of the wire's parameters that are given."""
        given = {
            "adapter_id": self.adapter_id,
            "adapter_source": self.adapter_source,
            "merged_adapters": None if self.merged is None else self.merged.model_dump(exclude_none=True),
            "api_token": self.api_token,
        }
        return {name: value for name, value in given.items() if value is not None}


def answer_call(
    request: Request, adapter: Adapter, model: str, *, stop: Sequence[str], bos: str, secrets: Secrets
) -> Call[Piece]:
    """Ask for `request`.

    Args:
        request: The generation.
        adapter: What it runs on; merged adapters take a prompt.
        model: The base model's name, '' where it is not known; for messages.
        stop: The stop words the server shall look for itself.
        bos: The template's BOS; the server puts the tokenizer's before a prompt itself.
        secrets: What must not show in errors.
    """
    if request.prompt is None:
        return _chat_call(request, adapter.adapter_id or model, adapter, stop, secrets)
    body = {
        "inputs": request.prompt.removeprefix(bos),
        "parameters": {**_parameters(request, stop), **adapter.fields()},
        "stream": request.options.stream,
    }
    pieces = _Pieces(request)
    if not request.options.stream:
        return post_call("", body, pieces.whole, secrets)
    decoder = partial(EventDecoder, pieces.streamed, _is_last)
    return stream_call("", body, decoder, secrets)


def token_ids_call(text: str, *, bos: str, secrets: Secrets) -> Call[list[int]]:
    """Ask for the token ids of `text` as a prompt."""
    body = {"inputs": text.removeprefix(bos), "add_special_tokens": True}
    return post_call(
        "/tokenize", body, lambda head, data: [token.id for token in _decode_tokens(data)], secrets
    )


def _parameters(request: Request, stop: Sequence[str]) -> dict[str, Any]:
    params = request.params
    found: dict[str, Any] = {
        "max_new_tokens": params.max_new_tokens,
        "details": True,
        "return_full_text": False,  # some servers' default is True
        "stop": list(stop),
        "ignore_eos_token": params.ignore_eos,
        **_sampling(request),
    }
    if params.logprobs:
        found["return_k_alternatives"] = params.logprobs
    if params.response_format is not None:
        found["response_format"] = response_format(params.response_format).model_dump(exclude_none=True)
    return found


def _sampling(request: Request) -> dict[str, Any]:
    """Only what differs from no filter: anything else would make the server sample."""
    params = request.params
    found: dict[str, Any] = {}
    if not PARAMETERS["repetition_penalty"].is_no_op(params.repetition_penalty):
        found["repetition_penalty"] = params.repetition_penalty
    if params.temperature == 0:
        return {**found, "do_sample": False}
    found |= {"do_sample": True, "temperature": params.temperature}
    for name in ("top_k", "top_p", "seed"):
        value = getattr(params, name)
        if not PARAMETERS[name].is_no_op(value):
            found[name] = value
    return found


class _Pieces:
    """Makes pieces of one answer's tokens. The end token is none of the answer: it is left out everywhere."""

    def __init__(self, request: Request) -> None:
        self._stop_words = request.stop_words
        self._skip_special = request.params.skip_special_tokens
        self._top = request.params.logprobs
        self._count = 0

    def streamed(self, data: bytes) -> Piece:
        """The piece in one event."""
        response = _decode_event(data)
        if response.generated_text is None and response.details is None:
            return self._piece(response.token)
        return self._last(response.token, response.details)

    def whole(self, head: ResponseHead, body: bytes) -> Piece:
        """The piece that is an answer in one."""
        details = Response.of(head, body).details
        if details is None or not details.tokens:
            raise msgspec.ValidationError("there are no details")
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

    def _last(self, token: Token, details: answers.StreamDetails | Details | None) -> Piece:
        ended = details is not None and details.finish_reason is answers.FinishReason.EndOfSequenceToken
        piece = Piece() if ended else self._piece(token)
        length = details is not None and details.finish_reason is answers.FinishReason.Length
        reason: FinishReason = "length" if length else "stop"
        return replace(
            piece,
            n_tokens=self._count,
            finish_reason=reason,
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


def _chat_call(
    request: Request, model: str, adapter: Adapter, stop: Sequence[str], secrets: Secrets
) -> Call[Piece]:
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
    # Streamed text has the special tokens in it, an answer in one piece has not; tools take the latter.
    body["stream"] = not (params.skip_special_tokens or options.tools)
    body.pop("stream_options", None)
    greedy = params.temperature == 0  # the server samples unless it is told this temperature
    body |= {
        **_sampling(request),
        **({"temperature": 0} if greedy else {}),
        "ignore_eos_token": params.ignore_eos,
    }
    body.pop("do_sample")
    if params.response_format is not None:
        body["response_format"] = response_format(params.response_format).model_dump(exclude_none=True)
    body |= {name: value for name, value in adapter.fields().items() if name != "adapter_id"}
    path, read_error = "/v1/chat/completions", error_reader(secrets)
    decoder: Callable[[ResponseHead], CompletionDecoder] = partial(
        _ChatDecoder, where=path, read_error=read_error
    )
    return Call(HTTPRequest.json(path, body), decoder, read_error)


class _ChatDecoder(CompletionDecoder):
    """As every OpenAI-style server's answer, but for what the server says of its end."""

    def _last(self) -> Piece:
        piece = super()._last()
        if self._finish_reason != "stop" or piece.usage is None:
            return piece
        # An end token is counted, though it is none of the answer.
        usage = replace(piece.usage, completion_tokens=max(0, piece.usage.completion_tokens - 1))
        return replace(piece, usage=usage, n_tokens=usage.completion_tokens)

    def _reason(self, reason: str) -> FinishReason:
        return (
            "stop" if reason == "content_filter" else super()._reason(reason)
        )  # that is a stop sequence here
