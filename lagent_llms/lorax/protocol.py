"""LoRAX's own protocol: building calls, decoding responses and events, reading errors. No I/O.

Written against the router's source of 2026-05; see docs/lorax.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import LLMError
from ..http.exchange import BodyDecoder, Call, Decoder
from ..http.messages import HTTPRequest, ResponseHead, is_error_body, read_refusal
from ..http.sse import EventSplitter
from ..protocols.lenient import convert, is_truncated, load_json
from ..untrusted import DECODE_ERRORS
from .error_types import IncompleteGenerationError, UnknownError, parse_error
from .response_types import StreamResponse
from .result_forms import as_events

__all__ = ["EventDecoder", "get_call", "post_call", "read_error", "stream_call"]

T = TypeVar("T")
_FIELDS = frozenset(StreamResponse.__struct_fields__)


def post_call(
    path: str,
    body: Mapping[str, Any],
    parse: Callable[[ResponseHead, bytes], T],
    secrets: Sequence[str] = (),
) -> Call[T]:
    """Build a POST call with a response that is not streamed.

    Args:
        path: Path under the server's base URL; '' is the base URL itself.
        body: JSON body.
        parse: Parses the response's head and body; raises a msgspec error if the body is not a result.
        secrets: See `Call`.
    """
    return Call(HTTPRequest.json(path, body), _body_decoder(parse), read_error, secrets)


def get_call(path: str, parse: Callable[[ResponseHead, bytes], T]) -> Call[T]:
    """Build a GET call; see `post_call`."""
    return Call(HTTPRequest("GET", path), _body_decoder(parse), read_error)


def stream_call(
    path: str,
    body: Mapping[str, Any],
    decoder: Callable[[ResponseHead, Callable[[bytes], LLMError]], Decoder[T]],
    secrets: Sequence[str] = (),
) -> Call[T]:
    """Build a POST call with a streamed response.

    Args:
        path: Path under the server's base URL.
        body: JSON body.
        decoder: Makes the decoder from the response's head and a function that turns the data of an event
            that is not a result into an error.
        secrets: See `Call`.
    """
    return Call(
        HTTPRequest.json(path, body, {"Accept": "text/event-stream"}),
        lambda head: decoder(head, lambda data: read_error(head, data, head.where)),
        read_error,
        secrets,
    )


class EventDecoder(Generic[T]):
    """Decode the events of one stream.

    Args:
        decode: Decodes the data of an event; raises a msgspec error if the data is not an item.
        is_last: True for the final item.
        head: Head of the response.
        read_error: Makes the error for data that is not an item.
    """

    alive = False

    def __init__(
        self,
        decode: Callable[[bytes], T],
        is_last: Callable[[T], bool],
        head: ResponseHead,
        read_error: Callable[[bytes], LLMError],
    ) -> None:
        self.complete = False
        self._decode = decode
        self._is_last = is_last
        self._read_error = read_error
        self._events = EventSplitter(head.is_event_stream, head.limits.event_bytes)

    def feed(self, data: bytes) -> Iterator[T]:
        """Consume the next bytes and yield the items they complete.

        Raises:
            LLMError: An event is an error, or cannot be decoded.
        """
        decode, is_last = self._decode, self._is_last
        for event in self._events.feed(data):
            try:
                item = decode(event)
            except DECODE_ERRORS:
                if (again := self._read_again(event)) is None:
                    continue
                item = decode(again)
            yield item
            if is_last(item):
                self.complete = True
                return

    def finish(self) -> Iterator[T]:
        """End of the body.

        Raises:
            IncompleteGenerationError: The body ended before the final event.
            LLMError: The body is an error instead of a stream.
        """
        rest = self._events.finish()
        for event in as_events(rest[0]) if self._events.whole else rest:
            if not self._events.whole and is_truncated(event):
                break
            if (again := self._read_again(event)) is not None:
                item = self._decode(again)
                yield item
                if self._is_last(item):
                    self.complete = True
                    return
        raise IncompleteGenerationError(
            "the stream ended without its final event", code="incomplete_generation"
        )

    def _read_again(self, event: bytes) -> bytes | None:
        """Return an event as the protocol says; None for a ping, blank data and the marker of /v1/*.

        Raises:
            LLMError: It is an error, or cannot be read.
        """
        if event.strip() in (b"", b"[DONE]") and not self._events.whole:
            return None
        try:
            found = load_json(event)
            is_result = not isinstance(found, Mapping) or _FIELDS & found.keys() or self._events.whole
            if not is_result and not is_error_body(found):
                return None
            return msgspec.json.encode(convert(found, StreamResponse))
        except DECODE_ERRORS:
            raise self._read_error(event) from None


def _body_decoder(
    parse: Callable[[ResponseHead, bytes], T],
) -> Callable[[ResponseHead], BodyDecoder[T]]:
    """Return the `decoder` of a `Call` whose response `parse` reads."""

    def parsed(head: ResponseHead, body: bytes) -> T:
        try:
            return parse(head, body)
        except DECODE_ERRORS:
            raise read_error(head, body, head.where) from None

    return lambda head: BodyDecoder(lambda body: parsed(head, body), head)


def read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    """Make the error for a response that is not a result; `where` is the URL of the request."""
    refusal = read_refusal(body, head)
    message, code = refusal.message, refusal.code
    if head.status < 300 and not code:  # neither a result nor an error with a type
        error = UnknownError(f"{where}: the server's response cannot be read: {message[:200]!r}")
        error.status_code = head.status
        return error
    payload = {"error": message or f"{where}: no reason given", "error_type": code}
    return parse_error(head.status, payload, head.headers, retry_after=head.retry_after)
