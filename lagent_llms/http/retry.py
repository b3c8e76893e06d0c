"""Decide whether and when a failed request is retried. Pure: the caller waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConnectError, LLMError, ServerError, TimeoutExceeded

__all__ = ["RetryPolicy", "unreachable"]


def _uniform(low: float, high: float) -> float:
    import random  # imported here: slow, and rarely needed

    return random.uniform(low, high)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter, after errors that may be temporary.

    These are failed connections and the statuses 429, 502, 503 and 504. A request is never repeated once its
    answer has begun, nor after its connection broke, since the server may be executing it.

    Attributes:
        max_retries: Maximum number of attempts after the first.
        base: Longest backoff before the second attempt, in seconds; doubles with each further attempt.
        max_backoff: Longest backoff, in seconds. An error with a longer Retry-After is not retried.
        after_connect_timeout: Whether to retry after a connection that timed out, which is useful with
            several servers.
        uniform: Draws a float from a range; set by tests.
    """

    max_retries: int = 2
    base: float = 0.5
    max_backoff: float = 8.0
    after_connect_timeout: bool = True
    uniform: Callable[[float, float], float] = _uniform

    def backoff(self, error: LLMError, attempt: int) -> float | None:
        """Return the backoff in seconds after attempt `attempt` (from 0) failed; None for no retry."""
        if attempt >= self.max_retries or not _is_retryable(error):
            return None
        if isinstance(error, TimeoutExceeded) and not self.after_connect_timeout:
            return None
        if isinstance(error, ServerError) and error.retry_after is not None:
            return error.retry_after if error.retry_after <= self.max_backoff else None
        ceiling = min(self.max_backoff, self.base * 2**attempt)
        return self.uniform(ceiling / 2, ceiling)


def _is_retryable(error: LLMError) -> bool:
    if isinstance(error, ServerError):
        return error.status_code in (429, 502, 503, 504)
    return unreachable(error)


def unreachable(error: LLMError) -> bool:
    """Whether `error` means that no connection was made, so that nothing can have been sent."""
    return isinstance(error, ConnectError) or (
        isinstance(error, TimeoutExceeded) and error.phase == "connect"
    )
