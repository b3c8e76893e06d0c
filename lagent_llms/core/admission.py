"""Which prompt of a batch may be sent now, and to which server. Pure: the gates wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import LLMError
from .adaptive import AdaptiveConcurrency
from .concurrency import Concurrency

if TYPE_CHECKING:
    from .llm import LLMCore

__all__ = ["Admission", "Ticket", "admission_of"]


class Ticket(NamedTuple):
    """A prompt that was admitted.

    Attributes:
        server: The index of its server.
        cuts: See `Concurrency.enter`.
        at: When it was admitted.
    """

    server: int
    cuts: int
    at: float


class Admission:
    """The prompts in flight of one batch: a `Concurrency` for each server, and a limit of their rate.

    Args:
        servers: A `Concurrency` for each server, or one for all of them together.
        max_per_second: Most prompts that are sent in a second, None without a limit.
        clock: A monotonic clock, in seconds.
        ended: Called when no prompt is in flight any more.
    """

    def __init__(
        self,
        servers: Sequence[Concurrency],
        *,
        max_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._servers = servers
        self._only = servers[0] if len(servers) == 1 else None  # the usual case, which costs less
        self._interval = None if max_per_second is None else 1 / max_per_second
        self._clock, self._ended = clock, ended
        self._next_at = clock()

    @property
    def limit(self) -> int:
        """Prompts that may be in flight now."""
        return sum(int(server.limit) for server in self._servers)

    @property
    def most(self) -> int:
        """Prompts that may ever be in flight."""
        return sum(server.most for server in self._servers)

    @property
    def in_flight(self) -> int:
        """Prompts in flight."""
        if self._only is not None:
            return self._only.in_flight
        return sum(server.in_flight for server in self._servers)

    def wait(self) -> float | None:
        """See `Concurrency.wait`."""
        if self._only is not None:
            seconds = self._only.wait()
        else:
            waits = [server.wait() for server in self._servers]
            seconds = min((one for one in waits if one is not None), default=None)
        if seconds is None:
            return None
        return seconds if self._interval is None else max(seconds, self._next_at - self._clock())

    def enter(self) -> Ticket:
        """Note a prompt that is sent, to the server with the largest part of its places free."""
        if self._interval is not None:
            # A prompt that is sent a little late does not delay the next one.
            self._next_at = max(self._next_at, self._clock() - self._interval) + self._interval
        index = 0
        if self._only is None:
            index = min(
                (index for index, server in enumerate(self._servers) if server.wait() == 0),
                key=lambda index: self._servers[index].in_flight / self._servers[index].limit,
            )
        return Ticket(index, self._servers[index].enter(), self._clock())

    def server(self, ticket: Ticket) -> int | None:
        """The index of the server that the prompt is for, None for any."""
        return ticket.server if self._only is None else None

    def answered(self, ticket: Ticket) -> None:
        """See `Concurrency.answered`."""
        self._servers[ticket.server].answered(ticket.cuts, self._clock() - ticket.at)

    def failed(self, error: LLMError, ticket: Ticket) -> bool:
        """See `Concurrency.failed`."""
        return self._servers[ticket.server].failed(error, ticket.cuts)

    def hold(self, seconds: float, ticket: Ticket) -> None:
        """See `Concurrency.hold`."""
        self._servers[ticket.server].hold(seconds)

    def leave(self, ticket: Ticket) -> None:
        """See `Concurrency.leave`."""
        self._servers[ticket.server].leave()
        if not self.in_flight:
            self._ended()


def admission_of(
    llm: LLMCore, given: Mapping[str, Any], max_concurrency: int | Literal["auto"] | None = None
) -> Admission:
    """The admission of a batch on `llm`.

    An engine in this process is full at once. Servers are measured; the next batch begins with half of what
    was found.

    Args:
        llm: The backend.
        given: The keywords of the batch.
        max_concurrency: As for `LLMCore`; None is that of `llm`.
    """
    rate = llm.options.changed(
        {name: given[name] for name in ("max_per_second",) if name in given}
    ).max_per_second
    most = max_concurrency or llm.max_concurrency
    if most == "auto" and llm.fills_engine is not None:
        most = llm.fills_engine
    if most != "auto":
        return Admission([Concurrency(most)], max_per_second=rate)
    found = llm.found_concurrency
    servers = [AdaptiveConcurrency(found=found.get(index)) for index in range(llm.server_count)]

    def keep() -> None:
        found.update((index, server.found) for index, server in enumerate(servers))

    return Admission(servers, max_per_second=rate, ended=keep)
