"""Whether and when a failed request is sent again. Pure: the caller waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConnectError, LLMError, ServerError, TimeoutExceeded

__all__ = ["RetryPolicy", "unreachable"]


def _uniform(low: float, high: float) -> float:
    import random  # here, since importing it costs more than all of this module

    return random.uniform(low, high)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, for what may pass by itself.

    That is: no connection, 429, 502, 503 and 504. An answer that has begun is never asked for again, nor is
    a request whose connection broke after it was sent, since it may be running.

    Attributes:
        max_retries: Further attempts after the first; 0 is none.
        base: Longest pause before the first further attempt, in seconds; doubles with each.
        longest: Longest pause of all, in seconds. A server that asks for more is not asked again.
        after_connect_timeout: Whether to go on after a connection that took too long, which makes sense where
            there is another server to ask.
        uniform: Draws from a range; given by tests.
    """

    max_retries: int = 2
    base: float = 0.5
    longest: float = 8.0
    after_connect_timeout: bool = True
    uniform: Callable[[float, float], float] = _uniform

    def pause(self, error: LLMError, attempt: int) -> float | None:
        """Seconds to wait after attempt `attempt` (from 0) failed; None when it is not repeated."""
        if attempt >= self.max_retries or not _may_pass(error):
            return None
        if isinstance(error, TimeoutExceeded) and not self.after_connect_timeout:
            return None
        if isinstance(error, ServerError) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.longest else None
        ceiling = min(self.longest, self.base * 2**attempt)
        return self.uniform(ceiling / 2, ceiling)


def _may_pass(error: LLMError) -> bool:
    if isinstance(error, ServerError):
        return error.status_code in (429, 502, 503, 504)
    return unreachable(error)


def unreachable(error: LLMError) -> bool:
    """Whether `error` says that no connection was made, so that nothing can have been sent."""
    return isinstance(error, ConnectError) or (
        isinstance(error, TimeoutExceeded) and error.phase == "connect"
    )
