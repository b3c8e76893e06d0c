"""One attempt of a request and its answer as a series of commands. Pure: no I/O.

`Exchange` returns the next command and takes its outcome; the clients (`sync_client`, `async_client`) only
execute commands, so that both behave the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from ..errors import LLMError, ServerError
from ..retry import is_unreachable
from ..untrusted import DECODE_ERRORS
from .endpoints import Endpoints, public_url
from .limits import DEFAULT_LIMITS, Limits
from .messages import HTTPRequest, ResponseHead, read_refusal, server_error, wrong_answer
from .secrets import Secrets

__all__ = [
    "READ",
    "BodyDecoder",
    "Call",
    "Command",
    "Decoder",
    "Exchange",
    "Read",
    "Send",
    "Settings",
]

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Send `request` to `url`; the outcome is the `ResponseHead` of the response.

    The connection of an earlier `Send` is released first.
    """

    url: str = field(repr=False)
    request: HTTPRequest


@dataclass(frozen=True, slots=True)
class Read:
    """Read some of the body; the outcome is bytes, empty at its end."""


READ = Read()
#: What `Exchange.resume` returns: a sequence of decoded items for the caller, or a command to execute. An
#: empty sequence renews the wait for the next item: the server generates, with nothing to show yet.
Command = Send | Read | Sequence[T]


class Decoder(Protocol[T_co]):
    """Reads the body of one successful response.

    Attributes:
        complete: Whether the answer is complete; further bytes of the body are not needed.
        alive: Set by `feed` if the server generates but no item is complete; the exchange resets it.
    """

    complete: bool
    alive: bool

    def feed(self, data: bytes) -> Iterable[T_co]:
        """Take the next bytes and return the items they complete, up to an error."""

    def finish(self) -> Iterable[T_co]:
        """Note the end of the body and return the remaining items.

        Raises:
            StreamInterrupted: The body ended too early.
        """


class BodyDecoder(Generic[T]):
    """A decoder for a body that is read as a whole.

    Args:
        parse: Makes the result from all the bytes; raises a msgspec error if they are not the result.
        head: Head of the response.
    """

    alive = False

    def __init__(self, parse: Callable[[bytes], T], head: ResponseHead) -> None:
        self.complete = False
        self._parse = parse
        self._head = head
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> Iterable[T]:
        """Keep `data`."""
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
        except DECODE_ERRORS as error:
            refusal = read_refusal(body, self._head)
            raise wrong_answer(
                self._head, f"it cannot be read ({error}): {refusal.message[:1000]}"
            ) from error


def _read_error(head: ResponseHead, body: bytes, where: str) -> LLMError:
    return server_error(head.status, read_refusal(body, head), where=where, retry_after=head.retry_after)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request and how to read its response.

    Attributes:
        request: The request.
        decoder: Makes the decoder for the body of a successful response.
        read_error: Makes the error for any other response, from its head, its body and its URL.
        secrets: Values of this request that no error may show, besides those of the transport.
        server: The index of the server to prefer, None for any.
    """

    request: HTTPRequest
    decoder: Callable[[ResponseHead], Decoder[T]]
    read_error: Callable[[ResponseHead, bytes, str], LLMError] = field(default=_read_error)
    secrets: Sequence[str] = field(default=(), repr=False)
    server: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a transport knows about its servers.

    Attributes:
        secrets: Redacted from every error.
        session_secrets: Returns those that the caller's session holds now; it may have changed them.
        proxies: For messages, ' through the proxy …' by the server's URL, where there is one.
        limits: The most that a server may send.
    """

    secrets: Secrets = field(default_factory=Secrets)
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = DEFAULT_LIMITS
    session_secrets: Callable[[], Sequence[str]] = field(default=tuple, repr=False)

    def address(self, url: str) -> str:
        """Return the URL of a server without credentials, and the proxy, for messages."""
        return public_url(url) + self.proxies.get(url, "")


_DEFAULTS = Settings()


class Exchange(Generic[T]):
    """Sends a call and decodes the response. Servers that cannot be reached are passed over at once.

    Args:
        call: The request and how to read its response.
        endpoints: The servers.
        settings: What is known about the servers.

    Attributes:
        complete: Whether the answer is complete; further bytes of the body are not needed.
        reads_next: Whether the command after items is READ: its outcome is the next argument of `resume`.
    """

    __slots__ = ("_secrets", "_send", "_settings", "_steps", "complete", "reads_next")

    def __init__(self, call: Call[T], endpoints: Endpoints, settings: Settings = _DEFAULTS) -> None:
        self.complete = self.reads_next = False
        self._settings = settings
        self._secrets = settings.secrets
        if call.secrets:
            self._secrets = Secrets.of(*settings.secrets.values, *call.secrets)
        self._steps = self._run(call, endpoints)
        self._send = self._steps.send

    def resume(self, outcome: object) -> Command[T]:
        """Take the outcome of the last command and return the next command.

        Args:
            outcome: None for the first command; an `LLMError` if the command failed.

        Raises:
            StopIteration: The exchange has ended.
            LLMError: The exchange has failed.
        """
        try:
            if not isinstance(outcome, LLMError):
                return self._send(outcome)
            return self._steps.throw(outcome)
        except LLMError as error:
            Secrets.of(*self._secrets.values, *self._settings.session_secrets()).redact_error(error)
            raise

    def close(self) -> None:
        """End the exchange early."""
        self._steps.close()

    def _run(self, call: Call[T], endpoints: Endpoints) -> Generator[Command[T], Any, None]:
        limit = self._settings.limits.response_bytes
        others = len(endpoints.urls) - 1
        preferred = call.server
        while True:
            url = endpoints.only or endpoints.take(preferred)
            alive, size = True, 0
            try:
                head: ResponseHead = yield Send(url, call.request)
                head.base, head.path = url, call.request.path
                head.via, head.limits = self._settings.proxies.get(url, ""), self._settings.limits
                if head.status >= 300:
                    raise (yield from _read_error_response(call, head))
                decoder = call.decoder(head)
                data = yield READ
                while True:
                    size += len(data)
                    if size > limit:
                        raise self._too_large(head)
                    items: list[T] = []
                    failure: Exception | None = None
                    try:
                        items.extend(decoder.feed(data) if data else decoder.finish())
                    except Exception as error:  # noqa: BLE001  (raised once the items before it were taken)
                        failure = error
                    self.complete = decoder.complete
                    self.reads_next = bool(data) and failure is None and not decoder.complete
                    if not self.reads_next:
                        if items:
                            yield items
                        if failure is not None:
                            raise failure
                        return
                    command: list[Command[T]] = [items or (() if decoder.alive else READ)]
                    decoder.alive = False
                    del items  # frees the items while the stream waits
                    data = yield command.pop()
            except LLMError as error:
                self.reads_next = False
                alive = not is_unreachable(error)
                if alive or not others:
                    raise
            except Exception as error:  # only a decoder raises it: whatever a server sends is an LLMError
                raise wrong_answer(head, f"it cannot be read: {str(error)[:200]!r}") from error
            finally:
                if endpoints.only is None:
                    endpoints.give_back(url, alive=alive)
            others -= 1  # nothing was sent: the next server gets the request at once
            preferred = None

    def _too_large(self, head: ResponseHead) -> ServerError:
        return ServerError(
            f"{head.where}: the response exceeds {self._settings.limits.response_bytes} bytes; "
            "limits.response_bytes allows more"
        )


def _read_error_response(call: Call[T], head: ResponseHead) -> Generator[Command[T], Any, LLMError]:
    body = bytearray()
    limit = head.limits.error_bytes
    while len(body) < limit and (data := (yield READ)):
        body += data
    return call.read_error(head, bytes(body[:limit]), head.where)
