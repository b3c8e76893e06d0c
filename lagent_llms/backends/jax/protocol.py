"""What our own server speaks beside OpenAI-style completions. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from ...core.request import Request
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest
from ...protocols.openai import CompletionDecoder, completion_body, model_names, read_error
from ...schema import Message, Piece

__all__ = ["answer_call", "models_call", "tokenize_call"]


def answer_call(request: Request, model: str) -> Call[Piece]:
    """Ask for `request`: a prompt at /v1/completions, messages at /v1/chat/completions."""
    path = "/v1/chat/completions" if request.prompt is None else "/v1/completions"
    # The server has the same scanner of stop words, so it may look for all of them, and stops at once.
    body = completion_body(request, model, stop=request.stop_words)
    body.setdefault("top_k", None)  # no filter; left out, the server's default would apply
    headers = {"X-Request-Id": request.options.request_id} if request.options.request_id else None
    return Call(HTTPRequest.json(path, body, headers), partial(CompletionDecoder, where=path), read_error)


def tokenize_call(
    inputs: str | Sequence[Message], model: str, tools: Sequence[Any] | None = None
) -> Call[list[int]]:
    """Ask for the token ids of a prompt, or of the one that the server would make of messages."""
    body: dict[str, Any] = {"model": model, "prompt" if isinstance(inputs, str) else "messages": inputs}
    if tools and not isinstance(inputs, str):
        body["tools"] = tools
    return Call(HTTPRequest.json("/tokenize", body), lambda head: BodyDecoder(_token_ids), read_error)


def models_call() -> Call[list[str]]:
    """Ask for the names of the models."""
    return Call(HTTPRequest("GET", "/v1/models"), lambda head: BodyDecoder(model_names), read_error)


class _Tokens(msgspec.Struct):
    tokens: list[int]


def _token_ids(body: bytes) -> list[int]:
    return msgspec.json.decode(body, type=_Tokens).tokens
