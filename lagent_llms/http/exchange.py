"""One request and its answer, retries included, as a series of commands. Pure: no I/O.

`Exchange` says what is to be done next and is told what came of it; a driver (`lagent_llms.transport`) does
nothing else than that, so sync and async cannot differ in what they mean.
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

#: Most bytes of an error body that are read.
_LONGEST_REFUSAL = 1 << 20


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` to `url`; the result is the `ResponseHead` of the response."""

    url: str
    request: HTTPRequest


@dataclass(frozen=True, slots=True)
class Read:
    """Read some of the body; the result is bytes, empty at its end."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Drop the connection and wait this many seconds."""

    seconds: float


READ = Read()
#: What a driver is told: a list holds what was decoded and is for the caller.
Command = Send | Read | Pause | Sequence[T]


class Decoder(Protocol[T_co]):
    """Reads the body of one successful response.

    Attributes:
        complete: The answer is whole; what may still follow is not needed.
    """

    complete: bool

    def feed(self, data: bytes) -> Iterable[T_co]:
        """Take the next bytes; gives what they complete, up to an error."""

    def finish(self) -> Iterable[T_co]:
        """The body has ended; gives what was still held.

        Raises:
            StreamInterrupted: It ended too early.
        """


class BodyDecoder(Generic[T]):
    """A decoder for bodies that are read as a whole.

    Args:
        parse: Makes the result of all the bytes.
    """

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self.complete = False
        self._parse = parse
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterable[T]:
        """Keep `data`."""
        self._parts.append(data)
        return ()

    def finish(self) -> Iterable[T]:
        """The result.

        Raises:
            ServerError: The body is not what was expected.
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
    """A request and how to read what comes back.

    Attributes:
        request: What is sent.
        decoder: Makes the decoder of a successful response.
        read_error: Makes the error of any other response from its head, its body and where it came from.
    """

    request: HTTPRequest
    decoder: Callable[[ResponseHead], Decoder[T]]
    read_error: Callable[[ResponseHead, bytes, str], LLMError] = field(default=_read_error)


class Exchange(Generic[T]):
    """A call on its way: sent, decoded, and sent again where that is right and nothing was decoded yet.

    Args:
        call: What to send and how to read the answer.
        endpoints: Where to.
        retry: What is tried again.

    Attributes:
        complete: The answer is whole; what the server may still send is not needed.
    """

    def __init__(self, call: Call[T], endpoints: Endpoints, retry: RetryPolicy) -> None:
        self.complete = False
        self._steps = self._run(call, endpoints, retry)

    def resume(self, outcome: object) -> Command[T]:
        """Tell what came of the last command (None at first, an `LLMError` if it failed); get the next one.

        Raises:
            StopIteration: The exchange is over.
            LLMError: It has failed.
        """
        if isinstance(outcome, LLMError):
            return self._steps.throw(outcome)
        return self._steps.send(outcome)

    def close(self) -> None:
        """End it where it is."""
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
                        items = []  # a thousand streams that wait keep nothing
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
            # Another server can be asked at once.
            yield Pause(pause if alive or not endpoints.alive else 0.0)
            attempt += 1


def _decoded(items: Iterable[T]) -> tuple[list[T], LLMError | None]:
    """All of `items`, and the error that ended them."""
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
