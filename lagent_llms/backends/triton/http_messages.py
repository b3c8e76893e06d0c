"""Triton over HTTP: the generate extension, and what the server tells of its models. Pure.

A streamed answer has no final marker of its own. What marks its end is the end of the chunked body, which a
server that dies does not send; a body whose length nobody told must have brought a finish reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from ...errors import ServerError, StreamInterrupted
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest, Refusal, ResponseHead, server_error
from ...http.sse import EventSplitter
from ...schema import Piece
from .conversation import InferRequest, InferResponse
from .dialects.base import OneModel, TextReader

__all__ = ["answer_call", "ask_call", "config_call", "index_call"]


def answer_call(conversation: OneModel) -> Call[Piece]:
    """The call that has `conversation`."""
    path = _path(conversation.request.model, "generate_stream" if conversation.decoupled else "generate")
    return Call(
        HTTPRequest.json(path, _body(conversation.request)),
        lambda head: _AnswerDecoder(head, conversation.reader(), path),
    )


def ask_call(request: InferRequest) -> Call[InferResponse]:
    """The call of a model that answers once."""
    return Call(
        HTTPRequest.json(_path(request.model, "generate"), _body(request)),
        lambda head: BodyDecoder[InferResponse](lambda body: JSONResponse(msgspec.json.decode(body))),
    )


def config_call(model: str) -> Call[Mapping[str, Any]]:
    """The call for a model's config."""
    return Call(HTTPRequest("GET", _path(model, "config")), lambda head: BodyDecoder(msgspec.json.decode))


def index_call() -> Call[list[Mapping[str, Any]]]:
    """The call for what the repository holds."""
    return Call(HTTPRequest.json("/v2/repository/index", {}), lambda head: BodyDecoder(msgspec.json.decode))


def _path(model: str, what: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/{what}"


def _body(request: InferRequest) -> dict[str, Any]:
    """The inputs by name; what is no input becomes a parameter of the request."""
    body: dict[str, Any] = dict(request.parameters)
    if request.id:
        body["id"] = request.id
    for tensor in request.inputs:
        one = len(tensor.values) == 1
        body[tensor.name] = tensor.values[0] if one else list(tensor.values)
    return body


class JSONResponse:
    """A response of the generate extension, see `InferResponse`."""

    __slots__ = ("_outputs",)

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self._outputs = outputs

    def text(self, name: str) -> str:
        """See `InferResponse.text`."""
        values = self.values(name)
        return str(values[0]) if values else ""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """See `InferResponse.values`."""
        found = self._outputs.get(name)
        values = found if isinstance(found, list) else [] if found is None else [found]
        return values[start:stop]


class _AnswerDecoder:
    """Reads the body of an answer, streamed or whole."""

    def __init__(self, head: ResponseHead, reader: TextReader, where: str) -> None:
        self.complete = False
        self._reader, self._where = reader, where
        self._events = EventSplitter() if head.is_event_stream else None
        self._whole: list[bytes] = []
        self._has_end = "content-length" in head.headers or "chunked" in head.headers.get(
            "transfer-encoding", ""
        )

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take the next bytes; gives the pieces they complete."""
        if self._events is None:
            self._whole.append(data)
            return
        for event in self._events.feed(data):
            yield from self._pieces(event)

    def finish(self) -> Iterator[Piece]:
        """The body has ended; gives the last piece."""
        if self._events is None:
            yield from self._pieces(b"".join(self._whole))
        last = self._reader.finish()
        if not self._has_end and not self._reader.told_end:
            raise StreamInterrupted(f"{self._where}: the answer ended without its final marker")
        self.complete = True
        yield last

    def _pieces(self, data: bytes) -> Iterator[Piece]:
        try:
            outputs = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise ServerError(f"{self._where}: what the server sent is no JSON: {data[:200]!r}") from error
        if not isinstance(outputs, Mapping) or "error" in outputs:
            words = outputs.get("error") if isinstance(outputs, Mapping) else outputs
            raise server_error(500, Refusal(str(words)), where=self._where)
        if (piece := self._reader.feed(JSONResponse(outputs))) is not None:
            yield piece
