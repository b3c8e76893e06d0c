"""LoRAX's own protocol: where requests go, the events of a stream, and what an error body means. Pure.

Written against the router's source of 2026-05; docs/lorax.md tells what that covers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ..errors import LLMError
from ..http.exchange import BodyDecoder, Call, Decoder
from ..http.messages import HTTPRequest, ResponseHead, read_refusal
from ..http.sse import EventSplitter
from .error_types import IncompleteGenerationError, UnknownError, parse_error

__all__ = ["EventDecoder", "Secrets", "error_reader", "get_call", "post_call", "stream_call"]

T = TypeVar("T")
_SECRET = re.compile("auth|cookie|key|password|secret|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What must not show in a message.

    Attributes:
        values: Tokens, cookies, and the like.
    """

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, *values: str | None) -> Secrets:
        """The secrets among `values`; a scheme (``Bearer``) is none, nor is what is too short for one."""
        found = {part for value in values for part in (value or "").split() if len(part) >= 4}
        return cls(tuple(sorted(found - {"Bearer", "Basic", "Token"}, key=len, reverse=True)))

    @staticmethod
    def in_headers(headers: Mapping[str, str] | None) -> list[str]:
        """The values of those headers whose names say that they are secret."""
        return [value for name, value in (headers or {}).items() if _SECRET.search(name)]

    def hide(self, text: str) -> str:
        """`text` with each of them as ``***``."""
        for value in self.values:
            text = text.replace(value, "***")
        return text


def post_call(
    path: str,
    body: Mapping[str, Any],
    parse: Callable[[ResponseHead, bytes], T],
    secrets: Secrets = Secrets(),
) -> Call[T]:
    """Ask for an answer in one piece.

    Args:
        path: Under the server's base URL; '' is the base URL itself.
        body: What is sent.
        parse: Makes the answer of the response's head and body; a msgspec error says that it is none.
        secrets: What must not show in errors.
    """
    return Call(HTTPRequest.json(path, body), *_reading(parse, secrets))


def get_call(path: str, parse: Callable[[ResponseHead, bytes], T], secrets: Secrets = Secrets()) -> Call[T]:
    """`post_call` without a body."""
    return Call(HTTPRequest("GET", path), *_reading(parse, secrets))


def stream_call(
    path: str,
    body: Mapping[str, Any],
    decoder: Callable[[ResponseHead, Callable[[bytes], LLMError]], Decoder[T]],
    secrets: Secrets = Secrets(),
) -> Call[T]:
    """Ask for a streamed answer.

    Args:
        path: Under the server's base URL.
        body: What is sent.
        decoder: Makes the decoder of the response's head, and of what makes an error of an event that is no
            piece of an answer.
        secrets: What must not show in errors.
    """
    read_error = error_reader(secrets)
    return Call(
        HTTPRequest.json(path, body, {"Accept": "text/event-stream"}),
        lambda head: decoder(head, lambda data: read_error(head, data, path)),
        read_error,
    )


class EventDecoder(Generic[T]):
    """Reads the events of one stream.

    Args:
        decode: Makes an item of the data of an event; a msgspec error says that it is none.
        is_last: Whether an item is the final one.
        head: The head of the response.
        read_error: Makes the error of data that is no item.
    """

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
        self._is_stream = head.is_event_stream
        self._events = EventSplitter()

    def feed(self, data: bytes) -> Iterator[T]:
        """Take the next bytes; gives the items they complete.

        Raises:
            LLMError: An event says that the answer failed.
        """
        decode, is_last = self._decode, self._is_last
        for event in self._events.feed(data):
            try:
                item = decode(event)
            except (msgspec.DecodeError, UnicodeDecodeError):
                if event == b"[DONE]":  # only /v1/* should send it
                    continue
                raise self._read_error(event) from None
            yield item
            if is_last(item):
                self.complete = True
                return

    def finish(self) -> Iterable[T]:
        """The body has ended.

        Raises:
            StreamInterrupted: Too early.
            LLMError: It is no stream, but an error.
        """
        if not self._is_stream:
            raise self._read_error(self._events.rest)
        raise IncompleteGenerationError(
            "the stream ended without its final event", code="incomplete_generation"
        )


def _reading(
    parse: Callable[[ResponseHead, bytes], T], secrets: Secrets
) -> tuple[Callable[[ResponseHead], BodyDecoder[T]], Callable[[ResponseHead, bytes, str], LLMError]]:
    read_error = error_reader(secrets)

    def parsed(head: ResponseHead, body: bytes) -> T:
        try:
            return parse(head, body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise read_error(head, body, "") from None

    return (lambda head: BodyDecoder(lambda body: parsed(head, body))), read_error


def error_reader(secrets: Secrets) -> Callable[[ResponseHead, bytes, str], LLMError]:
    """What makes the error of a response's head, its body and where it came from."""

    def read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
        refusal = read_refusal(body)
        words, code = secrets.hide(refusal.message), refusal.code
        if head.status < 300 and not code:  # neither an answer nor an error that the server names
            return UnknownError(f"the server's answer cannot be read: {words[:200]!r}")
        payload = {"error": words or f"{where}: no reason given", "error_type": code}
        return parse_error(head.status, payload, head.headers, retry_after=head.retry_after)

    return read_error
