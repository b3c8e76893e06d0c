"""One request and its answer, retries included, as a series of commands. Pure: no I/O.

`Exchange` yields the next command and takes its outcome; the clients (`sync_client`, `async_client`) only
execute commands, so that both behave alike.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from ..errors import LLMError, ServerError, TransportError
from .endpoints import Endpoints, public_url
from .messages import HTTPRequest, ResponseHead, read_refusal, server_error
from .retry import RetryPolicy, unreachable

__all__ = ["READ", "BodyDecoder", "Call", "Command", "Decoder", "Exchange", "Pause", "Read", "Send"]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

#: Most bytes of an error body that are read; more are ignored.
_LONGEST_REFUSAL = 1 << 20
#: Most bytes of a body that is read as a whole.
_LONGEST_BODY = 1 << 28


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` to `url`; the outcome is the `ResponseHead` of the response."""

    url: str
    request: HTTPRequest


@dataclass(frozen=True, slots=True)
class Read:
    """Read some of the body; the outcome is bytes, empty at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Leave the connection and wait this many seconds before the next attempt."""

    seconds: float


READ = Read()
#: What `Exchange.resume` returns: a sequence holds decoded items for the caller, all else is to be executed.
Command = Send | Read | Pause | Sequence[T]


class Decoder(Protocol[T_co]):
    """Reads the body of one successful response.

    Attributes:
        complete: Whether the answer is complete; further bytes of the body are not needed.
    """

    complete: bool

    def feed(self, data: bytes) -> Iterable[T_co]:
        """Take the next bytes and return the items they complete, up to an error."""

    def finish(self) -> Iterable[T_co]:
        """Tell that the body has ended, and return the items that were still held.

        Raises:
            StreamInterrupted: It ended too early.
        """


class BodyDecoder(Generic[T]):
    """A decoder for a body that is read as a whole.

    Args:
        parse: Makes the result from all the bytes.
    """

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self.complete = False
        self._parse = parse
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterable[T]:
        """Keep `data`.

        Raises:
            ServerError: The body exceeds 256 MiB.
        """
        self._size += len(data)
        if self._size > _LONGEST_BODY:
            raise ServerError(f"the server's answer exceeds {_LONGEST_BODY} bytes")
        self._parts.append(data)
        return ()

    def finish(self) -> Iterable[T]:
        """Parse the body.

        Raises:
            ServerError: The body cannot be parsed.
        """
        body = b"".join(self._parts)
        try:
            return [self._parse(body)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(f"the server's answer cannot be read ({error}): {body[:200]!r}") from error


def _read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    return server_error(head.status, read_refusal(body), where=where, retry_after=head.retry_after)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and how to read its response.

    Attributes:
        request: The request.
        decoder: Makes the decoder for the body of a successful response.
        read_error: Makes the error for any other response, from its head, its body and its address.
    """

    request: HTTPRequest
    decoder: Callable[[ResponseHead], Decoder[T]]
    read_error: Callable[[ResponseHead, bytes, str], LLMError] = field(default=_read_error)


class Exchange(Generic[T]):
    """Sends a call, decodes the response, and repeats it after a retryable error if no item was decoded yet.

    Args:
        call: The request and how to read its response.
        endpoints: The servers.
        retry: Which errors are retryable, and the backoff.

    Attributes:
        complete: Whether the answer is complete; further bytes of the body are not needed.
    """

    def __init__(self, call: Call[T], endpoints: Endpoints, retry: RetryPolicy) -> None:
        self.complete = False
        self._steps = self._run(call, endpoints, retry)

    def resume(self, outcome: object) -> Command[T]:
        """Take the outcome of the last command and return the next command.

        Args:
            outcome: None at first; an `LLMError` if the command failed.

        Raises:
            StopIteration: The exchange has ended.
            LLMError: The exchange has failed.
        """
        if isinstance(outcome, LLMError):
            return self._steps.throw(outcome)
        return self._steps.send(outcome)

    def close(self) -> None:
        """End the exchange early."""
        self._steps.close()

    def _run(
        self, call: Call[T], endpoints: Endpoints, retry: RetryPolicy
    ) -> Generator[Command[T], Any, None]:
        attempt = 0
        while True:
            url = endpoints.take()
            alive, begun = True, False
            try:
                head = yield Send(url, call.request)
                if head.status >= 300:
                    raise (yield from _refused(call, head, url))
                decoder = call.decoder(head)
                while True:
                    data = yield READ
                    items, broken = _decoded(decoder.feed(data) if data else decoder.finish())
                    self.complete = decoder.complete
                    if items:
                        begun = True
                        yield items
                        items = []  # a stream that waits keeps no items alive
                    if broken is not None:
                        raise broken
                    if decoder.complete or not data:
                        return
            except (TransportError, ServerError) as error:
                alive = not unreachable(error)
                pause = None if begun else retry.pause(error, attempt)
                if pause is None:
                    raise
            finally:
                endpoints.give_back(url, alive=alive)
            # Another server needs no backoff.
            yield Pause(pause if alive or not endpoints.alive else 0.0)
            attempt += 1


def _decoded(items: Iterable[T]) -> tuple[list[T], LLMError | None]:
    """Return all of `items`, and the error that ended them."""
    decoded: list[T] = []
    try:
        for item in items:
            decoded.append(item)
    except LLMError as error:
        return decoded, error
    return decoded, None


def _refused(call: Call[T], head: ResponseHead, url: str) -> Generator[Command[T], Any, LLMError]:
    body = b""
    while len(body) < _LONGEST_REFUSAL and (data := (yield READ)):
        body += data
    return call.read_error(head, body, public_url(url) + call.request.path)
