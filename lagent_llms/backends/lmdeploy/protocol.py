"""Requests and responses of lmdeploy's api_server and proxy, where they differ from OpenAI's. No I/O.

Written against lmdeploy 0.18; docs/lmdeploy.md lists the differences of older versions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import msgspec

from ...core.request import Request
from ...errors import LLMError
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest, ResponseHead, read_refusal, server_error
from ...params import PARAMETERS
from ...protocols.openai import CompletionDecoder, completion_body, model_names, read_error
from ...protocols.special_tokens import special_words, vocabulary_text
from ...schema import Piece, TokenLogprob
from ...structured.formats import choice_as_regex

__all__ = ["answer_call", "models_call", "tokenize_call"]

#: Parameters that a field carries unchanged: (name, field).
_FIELDS = [
    (row.name, "min_new_tokens" if row.name == "min_new_tokens" else row.wire)
    for row in PARAMETERS.values()
    if row.wire
]
#: Error codes that `lmdeploy serve proxy` sends with status 200, and the HTTP status each stands for.
_PROXY_STATUS = {"10400": 404, "10401": 503, "10402": 504, "10403": 500}


def answer_call(request: Request, model: str, *, bos: str = "") -> Call[Piece]:
    """Build the call for `request`: /v1/completions for a prompt, /v1/chat/completions for messages.

    Args:
        request: The generation.
        model: The server's name of the model or adapter.
        bos: The template's BOS, removed from the prompt because /v1/completions adds the tokenizer's.
    """
    path = "/v1/chat/completions" if request.prompt is None else "/v1/completions"
    body = completion_body(request, model, stop=_server_stops(request), fields=_FIELDS, no_top_k=0)
    if request.params.response_format is not None:
        body["response_format"] = choice_as_regex(request.params.response_format)
    if request.prompt is not None and bos:
        body["prompt"] = request.prompt.removeprefix(bos)
    headers = {"X-Request-Id": request.options.request_id} if request.options.request_id else None
    return Call(
        HTTPRequest.json(path, body, headers),
        _decoder
        if request.params.logprobs is None
        else partial(_LogprobDecoder, top=request.params.logprobs),
        _read_error,
    )


def tokenize_call(text: str) -> Call[list[int]]:
    """Build the call that returns the token ids of `text`, with a BOS."""
    body = {"input": text, "do_preprocess": False, "add_bos": True}
    return Call(HTTPRequest.json("/v1/encode", body), partial(BodyDecoder, _token_ids), _read_error)


def models_call() -> Call[list[str]]:
    """Build the call that returns the names of models and adapters."""
    return Call(HTTPRequest("GET", "/v1/models"), partial(BodyDecoder, model_names), _read_error)


class _LogprobDecoder(CompletionDecoder):
    """`CompletionDecoder` for lmdeploy's form of log-probabilities.

    Args:
        top: Number of alternatives requested per token.
    """

    needs_logprobs = True

    def __init__(self, head: ResponseHead, *, top: int = 0) -> None:
        super().__init__(head, read_error=_read_error)
        self._top = top

    def _piece(self, data: bytes) -> Piece | None:
        piece = super()._piece(data)
        if piece is None or not piece.logprobs:
            return piece
        return replace(piece, logprobs=tuple(map(self._logprob, piece.logprobs)))

    def _logprob(self, item: TokenLogprob) -> TokenLogprob:
        """Convert vocabulary entries to text and add the token to `top`, where lmdeploy omits it."""
        chosen = (vocabulary_text(item.token), None, item.logprob)
        others = [(vocabulary_text(token), None, logprob) for token, _, logprob in item.top]
        ranked = sorted([chosen, *others], key=lambda alternative: -alternative[2])
        return TokenLogprob(*chosen, tuple(ranked[: self._top]))


def _server_stops(request: Request) -> Sequence[str]:
    """Stop words to send to the server: those that can only be special tokens.

    The server stops at every token that contains the word and drops the whole token, which loses text for
    other words. With ignore_eos its pytorch engine never generates such a token.
    """
    return () if request.params.ignore_eos else special_words(request.stop_words)


class _Encoded(msgspec.Struct):
    input_ids: list[int]


def _token_ids(body: bytes) -> list[int]:
    return msgspec.json.decode(body, type=_Encoded).input_ids


def _read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    """`openai.read_error`, and the proxy's own errors, which have status 200."""
    refusal = read_refusal(body, head)
    if head.status < 300 and refusal.code in _PROXY_STATUS:
        return server_error(_PROXY_STATUS[refusal.code], refusal, where=where)
    return read_error(head, body, where)


_decoder: Callable[[ResponseHead], CompletionDecoder] = partial(CompletionDecoder, read_error=_read_error)
