"""Requests and responses of `JAXServer`, where they differ from OpenAI's. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from ...core.request import Request
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest
from ...params import CallOptions
from ...protocols.openai import CompletionDecoder, completion_body, model_names, read_error, template_fields
from ...schema import Message, Piece

__all__ = ["answer_call", "models_call", "tokenize_call"]


def answer_call(request: Request, model: str) -> Call[Piece]:
    """Build the call for `request`: /v1/completions for a prompt, /v1/chat/completions for messages."""
    path = "/v1/chat/completions" if request.prompt is None else "/v1/completions"
    # The server uses the same stop-word scanner, so it gets all stop words and stops generating at once.
    body = completion_body(request, model, stop=request.stop_words)
    if request.params.response_format is not None:
        body["response_format"] = request.params.response_format
    if request.prompt is None:
        body["calls_in_content"] = True  # the text of an answer keeps them, on every backend
    headers = {"X-Request-Id": request.options.request_id} if request.options.request_id else None
    return Call(HTTPRequest.json(path, body, headers), CompletionDecoder, read_error)


def tokenize_call(
    inputs: str | Sequence[Message], model: str, options: CallOptions | None = None
) -> Call[list[int]]:
    """Build the call that returns the token ids of a prompt, or of the prompt rendered from messages."""
    body: dict[str, Any] = {"model": model, "prompt" if isinstance(inputs, str) else "messages": inputs}
    if options is not None:
        body |= template_fields(options)
    return Call(HTTPRequest.json("/tokenize", body), partial(BodyDecoder, _token_ids), read_error)


def models_call() -> Call[list[str]]:
    """Build the call that returns the names of the models."""
    return Call(HTTPRequest("GET", "/v1/models"), partial(BodyDecoder, model_names), read_error)


class _Tokens(msgspec.Struct):
    tokens: list[int]


def _token_ids(body: bytes) -> list[int]:
    return msgspec.json.decode(body, type=_Tokens).tokens
