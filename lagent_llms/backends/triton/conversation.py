"""The commands a conversation with a Triton server consists of. Pure: no I/O.

A conversation is a generator. It yields commands (call a model, open a stream, read a response) and receives
their results; pieces of the answer that it yields go to the caller. It is the same for sync and async.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...schema import Piece
from .tensors import Tensor

__all__ = [
    "READ_RESPONSE",
    "Command",
    "Conversation",
    "GetModelConfig",
    "Infer",
    "InferRequest",
    "InferResponse",
    "ListModels",
    "OpenStream",
    "ReadResponse",
    "Steps",
    "UnaryCommand",
]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request to a model.

    Attributes:
        model: The model's name.
        inputs: Its input tensors.
        id: The caller's id of the request, '' for none.
        request_parameters: Triton's request parameters: priority, sequence_id, and those the caller adds.
    """

    model: str
    inputs: tuple[Tensor, ...]
    id: str = ""
    request_parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)


class InferResponse(Protocol):
    """One response of a model."""

    def text(self, name: str) -> str:
        """Return the first string of an output; '' if the response has no such output."""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """Return the values of an output from `start` to `stop`; [] if the response has no such output."""


@dataclass(frozen=True, slots=True)
class Infer:
    """Send a request to a model that responds once; the result is its `InferResponse`."""

    request: InferRequest


@dataclass(frozen=True, slots=True)
class GetModelConfig:
    """Get a model's config; the result is its JSON."""

    model: str


@dataclass(frozen=True, slots=True)
class ListModels:
    """List the models in the server's repository; the result is JSON: name, version, state, reason."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Send a request and open the stream of its responses. A stream that is still open is cancelled."""

    request: InferRequest


@dataclass(frozen=True, slots=True)
class ReadResponse:
    """Read the stream; the result is an `InferResponse`, None after the last one."""


READ_RESPONSE = ReadResponse()
#: Commands with exactly one response.
UnaryCommand = Infer | GetModelConfig | ListModels
Command = UnaryCommand | OpenStream | ReadResponse | Piece
#: The commands of one generation.
Steps = Generator[Command, Any, None]


class Conversation(Protocol):
    """One generation.

    Attributes:
        server_session: Id of the session that the generation occupies at the server; None if it occupies
            none. A new generation in a session is sent only after a pending cancel request of the same
            session has been completed.
    """

    @property
    def server_session(self) -> int | None:
        """See the class."""

    def steps(self) -> Steps:
        """Yield the commands of the generation from its beginning."""

    def cancel_request(self) -> InferRequest | None:
        """Return the request that stops the generation; None if cancelling the call is enough."""
