"""One generation at a Triton server as a series of commands. Pure: no I/O.

A conversation is a generator: it says what is to be done next (ask a model, open a stream, read it, wait) and
is told what came of it; pieces of the answer are for the caller. The drivers in `lagent_llms.transport` do
nothing else than that, so sync and async cannot differ in what they mean.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...errors import LLMError, ServerError
from ...http.retry import RetryPolicy, unreachable
from ...schema import Piece
from .tensors import Tensor

__all__ = [
    "NEXT",
    "Ask",
    "Command",
    "Conversation",
    "Describe",
    "Index",
    "InferRequest",
    "InferResponse",
    "Next",
    "Open",
    "Pause",
    "Steps",
    "exchange",
]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request to a model.

    Attributes:
        model: Its name.
        inputs: Its input tensors.
        id: The caller's name for the request.
        parameters: Request parameters (priority, sequence_id, and what the caller adds).
    """

    model: str
    inputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)


class InferResponse(Protocol):
    """One response of a model."""

    def text(self, name: str) -> str:
        """The first string of an output, '' when the response has no such output."""

    def values(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """The values of an output, from `start` to `stop`; [] when the response has no such output."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a model that answers once; the result is its `InferResponse`."""

    request: InferRequest


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a stream of responses."""

    request: InferRequest


@dataclass(frozen=True, slots=True)
class Next:
    """Read the stream; the result is an `InferResponse`, None after the last one."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Let go of the stream, if there is one, and wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Describe:
    """Ask for a model's config; the result is its JSON."""

    model: str


@dataclass(frozen=True, slots=True)
class Index:
    """Ask what the repository holds; the result is its JSON: name, version, state, reason."""


_log = logging.getLogger("lagent_llms.triton")

NEXT = Next()
Command = Ask | Open | Next | Pause | Describe | Index | Piece
#: What is sent for one generation, and how what comes back is read.
Steps = Generator[Command, Any, None]


class Conversation(Protocol):
    """One generation.

    Attributes:
        wait_for: A name that at most one conversation has at a time at the server, None for any number. A
            driver begins the next of that name once the farewell of the last is over.
    """

    @property
    def wait_for(self) -> int | None:
        """See above."""

    def steps(self) -> Steps:
        """Say what is to be done, from the beginning; called again when it is tried again."""

    def farewell(self) -> InferRequest | None:
        """What to send when it is left before its end, None for nothing but to cancel the call."""


def exchange(conversation: Conversation, retry: RetryPolicy, begun: Callable[[], bool]) -> Steps:
    """Have `conversation`, from the beginning again where that is right.

    Args:
        conversation: What is to be had.
        retry: How often, and after which pauses.
        begun: Tells whether some of the answer was shown. Pieces are not looked at here: to pass them on
            costs next to nothing.

    Raises:
        LLMError: It failed for good.
    """
    attempt = 0
    while True:
        try:
            yield from conversation.steps()
            return
        except LLMError as error:
            pause = None if begun() or not _again(error) else retry.pause(error, attempt)
            if pause is None:
                raise
            failure = error
        _log.info("tried again in %.1f s: %s", pause, failure)
        yield Pause(pause)
        attempt += 1


def _again(error: LLMError) -> bool:
    """Nothing can have come of the request: nobody was there, or the server's queue was full."""
    return unreachable(error) or isinstance(error, ServerError)
