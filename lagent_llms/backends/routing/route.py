"""Choose the member that answers a call, and the next one after a failure. Pure, and safe between threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ... import forks
from ...core.llm import LLMCore
from ...errors import LLMError, ServerStartError
from ...locks import DeferredLock
from ...retry import RetryPolicy, is_unreachable

__all__ = ["Pool", "Route"]

_log = logging.getLogger("lagent_llms.retry")


class Pool:
    """The members, the calls at each of them, and what has failed lately.

    Args:
        members: The members, in order.
        balanced: Choose the member with the fewest calls in flight, instead of the first.
        cooldown: How long a member comes last after a failure, in seconds.
        clock: A monotonic clock, in seconds.

    Attributes:
        homes: The index of the member that has answered the last turn of a session, by the session's id.
    """

    def __init__(
        self,
        members: Sequence[LLMCore],
        *,
        balanced: bool,
        cooldown: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members = members
        self.homes: dict[int, int] = {}
        self._balanced, self._cooldown, self._clock = balanced, cooldown, clock
        self._left_out_until = [float("-inf")] * len(members)
        self._in_flight, self._generation = [0] * len(members), forks.generation
        self._turn = -1
        self._lock = DeferredLock()

    def take(self, tried: Collection[int] = (), home: int | None = None) -> int:
        """The index of the member to ask, which gets one more call; `give_back` ends the call.

        Args:
            tried: Members that have failed to answer this call; at least one is not among them.
            home: The member to prefer unless it is left out.
        """
        with self._lock:
            if self._generation != forks.generation:  # the calls in flight are those of the parent process
                self._in_flight, self._generation = [0] * len(self.members), forks.generation
            now, count = self._clock(), len(self.members)
            self._turn += 1

            def rank(index: int) -> tuple[bool, bool, int, int]:
                load = (
                    (self._in_flight[index], (index - self._turn) % count) if self._balanced else (0, index)
                )
                return self._left_out_until[index] > now, index != home, *load

            chosen = min((index for index in range(count) if index not in tried), key=rank)
            self._in_flight[chosen] += 1
            return chosen

    def give_back(self, index: int, *, answered: bool | None) -> None:
        """Note the end of a call: answered, failed (the member comes last for a while), None for neither."""
        until = self._clock() + self._cooldown

        def give_back() -> None:
            self._in_flight[index] -= 1
            if answered is not None:
                self._left_out_until[index] = float("-inf") if answered else until

        self._lock.defer(give_back)


class Route:
    """The members that one call is sent to, one after the other.

    Args:
        pool: The members.
        session_id: The session of the call, None for a stateless one.
    """

    __slots__ = ("_failures", "_index", "_pool", "_session_id")

    def __init__(self, pool: Pool, session_id: int | None = None) -> None:
        self._pool, self._session_id = pool, session_id
        self._failures: dict[int, LLMError] = {}
        self._index: int | None = None

    def take(self) -> LLMCore:
        """The next member; `end` or `failed` must follow."""
        home = None if self._session_id is None else self._pool.homes.get(self._session_id)
        self._index = self._pool.take(self._failures, home)
        return self._pool.members[self._index]

    @contextmanager
    def asked(self) -> Iterator[Any]:
        """Ask the next member in this context; it ends without an error if another one is to be asked."""
        member = self.take()
        try:
            yield member
            self.end(answered=True)
        except LLMError as error:
            if (failure := self.failed(error, member.options.retry)) is not None:
                raise failure from failure.__cause__
        finally:
            self.end()

    def failed(self, error: LLMError, policy: RetryPolicy, *, begun: bool = False) -> LLMError | None:
        """Note that the member taken last has failed.

        Args:
            error: What it failed with.
            policy: Its policy.
            begun: Whether its answer had begun.

        Returns:
            The error to raise, None if another member is to be asked. If all have failed, it is that of a
            member that could be reached, if any, and its message tells all of them.
        """
        index, members = self._index, self._pool.members
        repeatable = policy.covers(error, repeatable=True) or isinstance(error, ServerStartError)
        self.end(answered=False if repeatable else None)
        if index is None or begun or not repeatable:
            return error
        self._failures[index] = error
        if len(self._failures) < len(members):
            _log.info("asking another member, because %r has failed: %s", members[index], error)
            return None
        ordered = sorted(self._failures.items(), key=lambda item: not is_unreachable(item[1]))
        chosen = ordered[-1][1]
        if len(members) > 1:
            told = "; ".join(f"{members[index]!r}: {one}" for index, one in ordered)
            chosen.args = (f"no member has answered: {told}", *chosen.args[1:])
        return chosen

    def end(self, *, answered: bool | None = None, closes_session: bool = False) -> None:
        """End the call at the member; see `Pool.give_back`. Does nothing after the end."""
        index, self._index = self._index, None
        if index is None:
            return
        self._pool.give_back(index, answered=answered)
        if answered and self._session_id is not None:
            if closes_session:
                self._pool.homes.pop(self._session_id, None)
            else:
                self._pool.homes[self._session_id] = index
