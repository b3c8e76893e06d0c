"""How many prompts of a batch are in flight. Pure: the gates wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import LLMError
from ..retry import is_overload

__all__ = ["Concurrency"]


class Concurrency:
    """The number of prompts in flight: halved when the server is overloaded, regained answer by answer.

    A prompt that waits in the server's queue is silent in the same way as a server that hangs. So a timeout
    is first a sign of too many prompts in flight; only one that occurs at the present number is the prompt's
    own. The same holds for 429 and 503.

    Args:
        most: Most prompts in flight.
        clock: A monotonic clock, in seconds.

    Attributes:
        most: Most prompts in flight.
        limit: Prompts that may be in flight now; the fraction is what answers have regained of the next one.
        in_flight: Prompts in flight.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(most)
        self.in_flight = 0
        self.most, self._clock = most, clock
        self._cuts = 0
        self._held_until = float("-inf")

    def wait(self) -> float | None:
        """Seconds until a prompt may be sent: 0 for now, None for when another one has ended."""
        if self.in_flight >= int(self.limit):
            return None
        return max(0.0, self._held_until - self._clock())

    def enter(self) -> int:
        """Note a prompt that is sent; return the number of cuts so far, for `answered` and `failed`."""
        self.in_flight += 1
        return self._cuts

    def leave(self) -> None:
        """Note that a prompt is no longer in flight."""
        self.in_flight -= 1

    def answered(self, cuts: int, seconds: float) -> None:
        """Regain a part of a place, for a prompt that was answered.

        Args:
            cuts: What `enter` returned for it.
            seconds: How long its attempt took.
        """
        if cuts == self._cuts and self.limit < self.most:
            self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def failed(self, error: LLMError, cuts: int) -> bool:
        """Halve the number in flight if `error` is an overload at the present number.

        Args:
            error: What an attempt failed with.
            cuts: What `enter` returned for it.

        Returns:
            Whether fewer are in flight now than when it was sent: then the failure says little of the prompt.
        """
        if not is_overload(error):
            return False
        if cuts < self._cuts:
            return True
        if self.in_flight < 2 or self.limit < 2:
            return False
        self.limit = float(max(1, min(int(self.limit), self.in_flight) // 2))
        self._cuts += 1
        return True

    def hold(self, seconds: float) -> None:
        """Send no prompt for `seconds`: the server has asked for that (Retry-After)."""
        self._held_until = max(self._held_until, self._clock() + seconds)
