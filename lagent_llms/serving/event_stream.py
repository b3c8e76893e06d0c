"""Responses of server-sent events, in the form of any API: an encoder writes the events of a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from fastapi.responses import StreamingResponse

from .disconnect import cancel_on_disconnect
from .request_log import logged_response, note_usage

if TYPE_CHECKING:
    from fastapi import Request

    from ..core.streams import AsyncStream
    from ..schema import Completion, StreamChunk
    from .error_responses import ErrorResponse

__all__ = ["Encoder", "event", "event_stream"]


class Encoder(Protocol):
    """Writes the events of one stream."""

    def chunk(self, chunk: StreamChunk) -> Iterable[str]:
        """The events of one step."""

    def end(self, completion: Completion) -> Iterable[str]:
        """The events after the last step."""

    def error(self, response: ErrorResponse) -> str:
        """The last event of a stream that failed."""


async def event_stream(request: Request, stream: AsyncStream, encoder: Encoder) -> StreamingResponse:
    """Respond with server-sent events, once the first chunk is there: an error before it sets the status."""
    try:
        first = await cancel_on_disconnect(request, stream.__anext__())
    except BaseException:  # a cancellation too: the generation must not go on
        stream.close()
        raise
    events = _events(request, first, stream, encoder)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _events(
    request: Request, first: StreamChunk, stream: AsyncStream, encoder: Encoder
) -> AsyncIterator[str]:
    try:
        for text in encoder.chunk(first):
            yield text
        async for chunk in stream:
            for text in encoder.chunk(chunk):
                yield text
        if stream.completion is not None:
            note_usage(request, stream.completion.usage)
            for text in encoder.end(stream.completion):
                yield text
    except Exception as error:  # noqa: BLE001  (the status was already sent: the error is the last event)
        yield encoder.error(logged_response(error, request.state.request_id))
    finally:
        stream.close()


def event(item: dict[str, Any], *, named: bool = False) -> str:
    """One server-sent event; `named` gives it the name that is its ``type``."""
    data = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    return f"event: {item['type']}\ndata: {data}\n\n" if named else f"data: {data}\n\n"
