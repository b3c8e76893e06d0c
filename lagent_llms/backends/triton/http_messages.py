"""Commands as requests of Triton's HTTP service (generate extension, model repository). Pure.

A streamed answer has no final marker. The end of the chunked body takes its place, because a server that is
killed does not send it; a body of unknown length is complete only if a response has held a finish reason.
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
from ...untrusted import UNREADABLE, read_json
from .conversation import GetModelConfig, InferRequest, ListModels, UnaryCommand
from .dialects.base import OneModel, TextReader

__all__ = ["generate_call", "unary_call"]


def generate_call(conversation: OneModel) -> Call[Piece]:
    """Return the call that runs `conversation`."""
    path = _path(conversation.request.model, "generate_stream" if conversation.decoupled else "generate")
    return Call(
        HTTPRequest.json(path, _body(conversation.request)),
        lambda head: _AnswerDecoder(head, conversation.reader(), path),
    )


def unary_call(command: UnaryCommand) -> Call[Any]:
    """Return the call that executes `command`."""
    if isinstance(command, GetModelConfig):
        request = HTTPRequest("GET", _path(command.model, "config"))
    elif isinstance(command, ListModels):
        request = HTTPRequest.json("/v2/repository/index", {})
    else:
        request = HTTPRequest.json(_path(command.request.model, "generate"), _body(command.request))
        return Call(request, lambda head: BodyDecoder(lambda body: JSONResponse(msgspec.json.decode(body))))
    return Call(request, lambda head: BodyDecoder(read_json))


def _path(model: str, action: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/{action}"


def _body(request: InferRequest) -> dict[str, Any]:
    """Return the inputs by name; the server takes every other field as a request parameter."""
    body: dict[str, Any] = dict(request.request_parameters)
    if request.id:
        body["id"] = request.id
    for tensor in request.inputs:
        single = len(tensor.values) == 1
        body[tensor.name] = tensor.values[0] if single else list(tensor.values)
    return body


class JSONResponse:
    """A response of the generate extension as `InferResponse`."""

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
    """Decodes the body of an answer, a stream of events or one JSON."""

    def __init__(self, head: ResponseHead, reader: TextReader, path: str) -> None:
        self.complete = False
        self._reader, self._path = reader, path
        self._events = EventSplitter() if head.is_event_stream else None
        self._body: list[bytes] = []
        self._has_end = "content-length" in head.headers or "chunked" in head.headers.get(
            "transfer-encoding", ""
        )

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take the next bytes; yield the pieces that they complete."""
        if self._events is None:
            self._body.append(data)
            return
        for event in self._events.feed(data):
            yield from self._pieces(event)

    def finish(self) -> Iterator[Piece]:
        """End the body; yield the last piece.

        Raises:
            StreamInterrupted: The body ended too early.
        """
        if self._events is None:
            yield from self._pieces(b"".join(self._body))
        last = self._reader.finish()
        if not self._has_end and not self._reader.told_end:
            raise StreamInterrupted(f"{self._path}: the answer ended without its final marker")
        self.complete = True
        yield last

    def _pieces(self, data: bytes) -> Iterator[Piece]:
        try:
            outputs = msgspec.json.decode(data)
        except UNREADABLE as error:
            raise ServerError(f"{self._path}: the server sent no JSON: {data[:200]!r}") from error
        if not isinstance(outputs, Mapping) or "error" in outputs:
            message = outputs.get("error") if isinstance(outputs, Mapping) else outputs
            raise server_error(500, Refusal(str(message)), where=self._path)
        if (piece := self._reader.feed(JSONResponse(outputs))) is not None:
            yield piece
