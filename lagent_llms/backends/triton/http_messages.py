"""Commands as requests of Triton's HTTP service (generate extension, model repository). Pure.

A streamed answer has no final marker. The end of the chunked body takes its place, because a server that is
killed does not send it; a body of unknown length is complete only if a response has held a finish reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from ...errors import StreamInterrupted
from ...http.exchange import BodyDecoder, Call
from ...http.messages import HTTPRequest, ResponseHead, read_refusal, server_error, wrong_answer
from ...http.sse import EventSplitter
from ...protocols.lenient import is_truncated, load_json, whole_text
from ...schema import Piece
from ...untrusted import read_json
from .conversation import GetModelConfig, InferRequest, ListModels, UnaryCommand
from .dialects.base import OneModel, TextReader

__all__ = ["generate_call", "unary_call"]


def generate_call(conversation: OneModel) -> Call[Piece]:
    """Return the call that runs `conversation`."""
    path = _path(conversation.request.model, "generate_stream" if conversation.decoupled else "generate")
    return Call(
        HTTPRequest.json(path, _body(conversation.request)),
        lambda head: _AnswerDecoder(head, conversation.reader()),
    )


def unary_call(command: UnaryCommand) -> Call[Any]:
    """Return the call that executes `command`."""
    if isinstance(command, GetModelConfig):
        request = HTTPRequest("GET", _path(command.model, "config"))
    elif isinstance(command, ListModels):
        request = HTTPRequest.json("/v2/repository/index", {})
    else:
        request = HTTPRequest.json(_path(command.request.model, "generate"), _body(command.request))
        return Call(request, partial(BodyDecoder, lambda body: JSONResponse(read_json(body))))
    return Call(request, partial(BodyDecoder, read_json))


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
        return whole_text(str(values[0])) if values else ""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """See `InferResponse.values`."""
        found = self._outputs.get(name)
        values = found if isinstance(found, list) else [] if found is None else [found]
        return values[start:stop]


class _AnswerDecoder:
    """Decodes the body of an answer, a stream of events or one JSON."""

    alive = False

    def __init__(self, head: ResponseHead, reader: TextReader) -> None:
        self.complete = False
        self._reader, self._head = reader, head
        self._events = EventSplitter(head.is_event_stream, head.limits.event_bytes)
        self._has_end = "content-length" in head.headers or "chunked" in head.headers.get(
            "transfer-encoding", ""
        )

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Take the next bytes; yield the pieces that they complete."""
        for event in self._events.feed(data):
            yield from self._pieces(event)

    def finish(self) -> Iterator[Piece]:
        """End the body; yield the last piece.

        Raises:
            StreamInterrupted: The body ended too early.
        """
        for event in self._events.finish():
            if not self._events.whole and is_truncated(event):
                raise StreamInterrupted(f"{self._head.where}: the answer ended in the middle of an event")
            yield from self._pieces(event)
        last = self._reader.finish()
        if not self._has_end and not self._reader.told_end:
            raise StreamInterrupted(f"{self._head.where}: the answer ended without its final marker")
        self.complete = True
        yield last

    def _pieces(self, data: bytes) -> Iterator[Piece]:
        if data.strip() in (b"", b"[DONE]") and not self._events.whole:  # from a proxy
            return
        try:
            outputs = load_json(data)
        except ValueError:
            refusal = read_refusal(data, self._head)
            raise wrong_answer(self._head, f"no JSON: {refusal.message[:1000]}") from None
        if not isinstance(outputs, Mapping):
            raise wrong_answer(self._head, f"an object with outputs is missing, got {data[:200]!r}")
        if outputs.get("error"):
            raise server_error(self._head.status, read_refusal(data), where=self._head.where)
        if outputs:  # otherwise a ping
            yield self._reader.feed(JSONResponse(outputs)) or Piece()
