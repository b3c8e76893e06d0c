"""Read the result of `generate` as a document or a stream, whichever was asked for. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from ..http.messages import ResponseHead
from ..http.sse import EventSplitter
from ..protocols.lenient import convert, load_json
from .response_types import Details, Response, ResponseHeaders, StreamDetails, StreamResponse

__all__ = ["as_events", "read_result"]

_decode = msgspec.json.Decoder(list[Response] | Response).decode


def read_result(head: ResponseHead, body: bytes) -> Response:
    """Decode a result: the only item of a list (route /), an object (route /generate), or a stream.

    Raises:
        msgspec.DecodeError: The body is none of them.
    """
    response = _read(body)
    response.__dict__["headers"] = ResponseHeaders.of(head)
    return response


def _read(body: bytes) -> Response:
    """Read the result of `generate`, which a server may send as an event stream."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        splitter = EventSplitter(labelled=False)
        events = splitter.feed(body) + splitter.finish()
        try:
            if splitter.whole:
                found = _converted(load_json(body))
            else:
                found = _joined(
                    [convert(load_json(event), StreamResponse) for event in events if b"{" in event]
                )
        except ValueError as error:
            raise msgspec.ValidationError(str(error)) from None
    if not found:
        raise msgspec.ValidationError("the list of results is empty")
    return found if isinstance(found, Response) else found[0]


def _converted(found: Any) -> Response:
    return convert(found[0] if isinstance(found, list) and found else found, Response)


def _joined(items: list[StreamResponse]) -> Response:
    """Make the result from the items of a stream."""
    if not items or items[-1].generated_text is None:
        raise msgspec.ValidationError("the stream has no final event")
    last = items[-1].details
    details = None
    if last is not None:
        details = Details(
            last.finish_reason,
            last.generated_tokens,
            last.prompt_tokens,
            last.seed,
            tokens=[item.token for item in items],
        )
    return Response(items[-1].generated_text or "", details)


def as_events(body: bytes) -> list[bytes]:
    """Return the events of a stream whose result came as one document; `body` itself if it is no result."""
    try:
        response = _read(body)
    except msgspec.DecodeError:
        return [body]
    if (details := response.details) is None or not details.tokens:
        return [body]
    items = [StreamResponse(token) for token in details.tokens]
    items[-1].generated_text = response.generated_text
    items[-1].details = StreamDetails(
        details.finish_reason, details.generated_tokens, details.prompt_tokens, details.seed
    )
    return [msgspec.json.encode(item) for item in items]
