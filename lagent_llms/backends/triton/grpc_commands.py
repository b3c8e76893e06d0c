"""The commands that a gRPC exchange gives its driver, and their outcomes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...http.limits import DEFAULT_LIMITS
from ...http.secrets import Secrets
from ...schema import Piece
from .conversation import InferRequest, OpenStream, UnaryCommand

__all__ = [
    "CANCEL_DELAY",
    "CANCEL_TIMEOUT",
    "CLOSE_TIMEOUT",
    "READ_MESSAGE",
    "CallFailure",
    "ChannelState",
    "DriverCommand",
    "ReadMessage",
    "SendCancel",
    "ServerLive",
    "UnaryCall",
    "WaitForCancel",
]

#: Most seconds for a cancel request. Until it is completed, its session accepts no new turn: the request
#: would stop that turn.
CANCEL_TIMEOUT = 60.0
#: Seconds that an abandoned stream may take to end by itself before it is cancelled: tritonserver before
#: 25.03 may crash if a cancel arrives while it ends a stream, as at a stop word that both sides see (ADR 68).
CANCEL_DELAY = 0.1
#: Most seconds that closing a channel waits for pending cancel requests.
CLOSE_TIMEOUT = 5.0


@dataclass(slots=True)
class ChannelState:
    """What is known about a channel; shared by all exchanges on it.

    Attributes:
        address: The server's 'ip:port'.
        connected: Whether the server has responded, and no call since has shown that it is gone.
        closed: Whether the channel was closed, which cancels the calls on it.
        secrets: Redacted from every error.
        max_response_bytes: Maximum size of the outputs of all the responses to one request.
    """

    address: str
    connected: bool = False
    closed: bool = False
    secrets: Secrets = field(default_factory=Secrets)
    max_response_bytes: int = DEFAULT_LIMITS.response_bytes


@dataclass(frozen=True, slots=True)
class CallFailure:
    """The outcome of a call that failed.

    Attributes:
        code: The status's name, for example 'UNAVAILABLE'; None if the call was ended on this side.
        details: The message that came with it.
        expired: Whether the driver has cancelled it because the exchange's deadline was over.
    """

    code: str | None
    details: str
    expired: bool = False


@dataclass(frozen=True, slots=True)
class ServerLive:
    """Check that the server is live; the result is a bool."""


@dataclass(frozen=True, slots=True)
class UnaryCall:
    """Make a call with one response; the outcome is the result of `command`, or a `CallFailure`.

    Attributes:
        command: What to call.
        timeout: Most seconds for it, None for no limit.
    """

    command: UnaryCommand | ServerLive
    timeout: float | None


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """Read the stream; the outcome is a ModelStreamInferResponse, None at the end, or a `CallFailure`."""


@dataclass(frozen=True, slots=True)
class WaitForCancel:
    """Wait until no cancel request of `session` is pending, at most `timeout` seconds (None: no limit)."""

    session: int
    timeout: float | None


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Send `request`, which stops the generation at the server, without waiting for its completion.

    Attributes:
        request: What to send.
        session: The session whose next turn waits for it; None if there is none.
    """

    request: InferRequest
    session: int | None


READ_MESSAGE = ReadMessage()
#: The outcome of `OpenStream` is None or a `CallFailure`. While the stream is open, the driver watches the
#: exchange's deadline and cancels the stream when it is over.
DriverCommand = UnaryCall | OpenStream | ReadMessage | WaitForCancel | Piece
