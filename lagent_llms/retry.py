"""Decide whether and when a failed call is tried again. Pure: the caller waits.

`RetryPolicy` is what the user sets, `Attempts` decides for one call after each failure, and `RetryBudget`
limits the retries of one client. Every backend uses the same three.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import (
    ConnectError,
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    ServerError,
    StreamInterrupted,
    TimeoutExceeded,
    nearest,
)
from .validators import flag, integer, listed, number, optional, refusal

__all__ = ["Attempts", "RetryBudget", "RetryPolicy", "is_overload", "is_unreachable", "with_max_retries"]

#: Statuses of a request that the server has not answered and that may succeed later.
_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)
#: Statuses of a server that has more requests than it can answer.
_OVERLOAD = frozenset({408, 429, 503, 504})

_positive = number("a number of seconds above 0", 0, above=True)
_retries = integer("an integer of 0 or more", 0)
_status = integer("an integer from 400 to 599", 400, 599)


def _statuses(name: str, value: Any) -> tuple[int, ...]:
    if (given := listed(value)) is None:
        raise refusal(name, value, "a list of HTTP statuses from 400 to 599")
    return tuple(_status(name, item) for item in given)


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_retries": optional(_retries),
    "max_wait": optional(_positive),
    "base": _positive,
    "max_backoff": _positive,
    "statuses": _statuses,
    "broken_connections": flag,
    "timeouts": flag,
    "budget": integer("an integer of 1 or more", 1),
}


@dataclass(frozen=True)
class RetryPolicy:
    """Which failures are retried, how often, and after which waits.

    A call is repeated only before its answer has begun, a prompt of a batch also later: no token of it was
    shown. The wait before retry n is drawn between 0 and ``base * 2**(n - 1)`` seconds, at most `max_backoff`
    (exponential backoff with full jitter); a wait that the server asks for (Retry-After) is added to it.

    Attributes:
        max_retries: Most retries of one call; None is 2, in batches 8.
        max_wait: Longest Retry-After that is honoured, in seconds; an error with a longer one is raised at
            once. None is 60, in batches 300.
        base: Longest wait before the first retry, in seconds.
        max_backoff: Longest wait before any retry, in seconds, without a Retry-After.
        statuses: The HTTP statuses that are retried; those of gRPC are converted.
        broken_connections: Retry if the connection breaks after the request was sent.
        timeouts: Retry after a timeout: of the connection, the first token, or (in batches) between pieces.
        budget: Most retries in a burst of one client. A retry is regained every second, and with every fifth
            answer.

    Raises:
        InvalidArgument: A value is not allowed.
    """

    max_retries: int | None = None
    max_wait: float | None = None
    base: float = 0.5
    max_backoff: float = 8.0
    statuses: tuple[int, ...] = _STATUSES
    broken_connections: bool = True
    timeouts: bool = True
    budget: int = 100

    def __post_init__(self) -> None:
        for item in fields(self):
            value = _CHECKS[item.name](f"RetryPolicy.{item.name}", getattr(self, item.name))
            object.__setattr__(self, item.name, value)

    @classmethod
    def of(cls, name: str, given: object) -> RetryPolicy:
        """Return `given`, a policy, a mapping of its fields, or a number of retries, as a policy.

        Args:
            name: The argument, for messages.
            given: The argument's value.

        Raises:
            InvalidArgument: A name or a value is not allowed.
        """
        if isinstance(given, RetryPolicy):
            return given
        if type(given) is int:
            return cls(max_retries=_retries(name, given))
        if not isinstance(given, Mapping):
            raise refusal(
                name, given, "RetryPolicy(…), a mapping such as {'max_retries': 4}, or a number of retries"
            )
        for key in given:
            if key not in _CHECKS:
                raise InvalidArgument(
                    f"{name}: unknown key {key!r}{nearest(str(key), _CHECKS)}; allowed are "
                    f"{', '.join(_CHECKS)}",
                    argument=name,
                )
        try:
            return cls(**given)
        except InvalidArgument as error:
            raise InvalidArgument(str(error), argument=name) from None

    def covers(self, error: LLMError, *, repeatable: bool) -> bool:
        """Whether `error` is retried at all.

        Args:
            error: What a call failed with before its answer began.
            repeatable: Whether a request that the server may have executed can be sent again.
        """
        if isinstance(error, ConnectError):
            return True
        if isinstance(error, TimeoutExceeded):
            kinds = ("connect", "first_token", "idle") if repeatable else ("connect",)
            return self.timeouts and error.phase in kinds
        if isinstance(error, StreamInterrupted):
            return self.broken_connections and repeatable
        return (
            isinstance(error, ServerError)
            and error.status_code in self.statuses
            and not isinstance(error, ContextLengthExceeded)
        )


def is_unreachable(error: LLMError) -> bool:
    """Whether `error` means that no connection was made, so that nothing can have been sent."""
    return isinstance(error, ConnectError) or (
        isinstance(error, TimeoutExceeded) and error.phase == "connect"
    )


def is_overload(error: LLMError) -> bool:
    """Whether `error` is a sign that the server has more requests than it can answer."""
    if isinstance(error, TimeoutExceeded):
        return error.phase in ("connect", "first_token", "idle")
    return isinstance(error, ServerError) and error.status_code in _OVERLOAD


def with_max_retries(given: Mapping[str, Any], max_retries: int | None) -> dict[str, Any]:
    """`given` with the constructor argument ``max_retries`` in its ``retry``.

    Raises:
        InvalidArgument: ``max_retries`` is not allowed, or ``retry`` is given too.
    """
    if max_retries is None:
        return dict(given)
    if given.get("retry") is not None:
        raise InvalidArgument(
            "max_retries and retry are both given; write retry=RetryPolicy(max_retries=…)",
            argument="max_retries",
        )
    return {**given, "retry": RetryPolicy(max_retries=_retries("max_retries", max_retries))}


#: Retries regained by a second and by an answer.
_PER_SECOND, _PER_ANSWER = 1.0, 0.2


class RetryBudget:
    """Limit the retries of one client, so that its retries cannot keep a failing server overloaded.

    A token bucket. Threads share it without a lock: what a race loses is a fraction of a retry.

    Args:
        clock: A monotonic clock, in seconds.

    Attributes:
        spent: The retries that are taken and not regained.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.spent = 0.0
        self._counted_at = clock()

    def take(self, capacity: int) -> bool:
        """Spend one retry of `capacity`; False if all are spent."""
        now = self._clock()
        self.spent = max(0.0, self.spent - (now - self._counted_at) * _PER_SECOND)
        self._counted_at = now
        if self.spent + 1 > capacity:
            return False
        self.spent += 1
        return True

    def answered(self) -> None:
        """Note a call that was answered."""
        self.spent = max(0.0, self.spent - _PER_ANSWER)


def _uniform(low: float, high: float) -> float:
    import random  # imported here: slow, and rarely needed

    return random.uniform(low, high)


class Attempts:
    """The attempts of one call.

    Args:
        policy: Which failures are retried.
        budget: The retries of the client.
        in_batch: Whether the call is one of a batch.
        total: Limit for the whole call in seconds, None without one.
        began: When the call began, by `clock`.
        clock: A monotonic clock, in seconds.
        uniform: Draws a float from a range.

    Attributes:
        count: Number of attempts so far, the running one included.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        *,
        in_batch: bool = False,
        total: float | None = None,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        self.count = 1
        self._policy, self._budget = policy, budget
        self._max_retries = policy.max_retries if policy.max_retries is not None else 8 if in_batch else 2
        self._max_wait = policy.max_wait if policy.max_wait is not None else 300.0 if in_batch else 60.0
        self._in_batch, self._total = in_batch, total
        self._clock, self._uniform = clock, uniform or _uniform
        self._began = clock() if began is None else began
        self._failures = self._excused = 0

    def backoff(
        self, error: LLMError, *, begun: bool = False, repeatable: bool = True, excused: bool = False
    ) -> float | None:
        """Return the seconds until the next attempt; None if `error` ends the call.

        Then the message of `error` tells the attempts, and the parameter that would have allowed more.

        Args:
            error: What the attempt failed with.
            begun: Whether its answer had begun.
            repeatable: See `RetryPolicy.covers`.
            excused: Whether the failure comes from other prompts of the same batch, of which fewer will be in
                flight: it spends no retry, at most as often as there are retries.
        """
        covered = self._policy.covers(error, repeatable=repeatable) and (self._in_batch or not begun)
        if not covered or not self._max_retries:
            return self._ended(error)
        if excused and self._excused < self._max_retries:
            self._excused += 1
        elif self._failures == self._max_retries:
            return self._ended(error, f"retry=RetryPolicy(max_retries={self._max_retries}) allows no more")
        else:
            excused, self._failures = False, self._failures + 1
        asked = getattr(error, "retry_after", None) or 0.0
        if asked > self._max_wait:
            reason = (
                f"the server asks to wait {asked:g} s, retry=RetryPolicy(max_wait={self._max_wait:g}) allows "
                "no longer wait"
            )
            return self._ended(error, reason)
        ceiling = min(self._policy.max_backoff, self._policy.base * 2 ** min(self.count - 1, 60))
        wait = asked + self._uniform(0.0, ceiling)
        if self._total is not None and self._clock() - self._began + wait >= self._total:
            reason = f"timeout=Timeout(total={self._total:g}) ends before a retry after {wait:.1f} s"
            return self._ended(error, reason)
        if not excused and not self._budget.take(self._policy.budget):
            reason = f"retry=RetryPolicy(budget={self._policy.budget}) is spent by other calls of this client"
            return self._ended(error, reason)
        self.count += 1
        return wait

    def _ended(self, error: LLMError, reason: str = "") -> float | None:
        error.attempts = self.count
        if self.count == 1 and not reason:
            return None
        seconds = self._clock() - self._began
        told = "not retried" if self.count == 1 else f"after {self.count} attempts in {seconds:.1f} s"
        message = str(error.args[0]) if error.args else ""
        error.args = (f"{message} ({told}{': ' if reason else ''}{reason})", *error.args[1:])
        return None
