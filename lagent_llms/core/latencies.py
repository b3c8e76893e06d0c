"""Whether prompts queue at a server, from its answers: their latencies and their pace. Pure."""

from __future__ import annotations

import math

__all__ = ["Latencies", "Pace", "Window"]

#: Latencies differ if their means do by so many standard deviations; before any is known, the variance is the
#: second number, in squares of the mean.
_SIGNIFICANT, _VARIANCE = 2.0, 0.3
_MOST_VARIANCE = 1.5
#: Latencies that are higher by this are not counted as those without a queue, significant or not.
_DOUBTFUL = 1.3
#: Answers without a queue that count; half of them are forgotten.
_MOST_KEPT = 2048


class Window:
    """What a server has answered since a moment.

    Attributes:
        began: The moment.
        answers: Number of answers.
        latency: Seconds that they took, together.
        squares: The squares of these seconds, together.
        taken: Seconds that places were taken, together.
    """

    __slots__ = ("answers", "began", "latency", "squares", "taken")

    def __init__(self, began: float = 0.0, answers: int = 0, latency: float = 0.0) -> None:
        self.began, self.answers, self.latency = began, answers, latency
        self.squares = self.taken = 0.0

    @property
    def mean(self) -> float:
        """The mean latency in seconds, 0 without an answer."""
        return self.latency / self.answers if self.answers else 0.0


class Latencies:
    """The latencies of answers without a queue at the server, and what they tell of others.

    Args:
        answers: Number of answers that are known already.
        latency: Seconds that they took, together.

    Attributes:
        variance: The variance of latencies, in squares of their mean.
    """

    def __init__(self, answers: int = 0, latency: float = 0.0) -> None:
        self._alone = Window(0.0, answers, latency)
        self.variance, self._known = _VARIANCE, 1  # of so many answers

    @property
    def found(self) -> tuple[int, float]:
        """Number of answers without a queue, and the seconds that they took together."""
        return self._alone.answers, self._alone.latency

    def forget(self) -> None:
        """Forget the answers without a queue."""
        self._alone = Window()

    def is_doubtful(self, window: Window) -> bool:
        """Whether `window` may have had a queue although that is not significant."""
        return self._slower(window) >= _DOUBTFUL

    def _slower(self, window: Window) -> float:
        """The latency of `window`, in those of answers without a queue."""
        alone = self._alone
        if not (alone.answers and alone.latency):
            return 1.0
        return window.latency / window.answers * alone.answers / alone.latency

    def usage(self, window: Window) -> float:
        """What a place answered in `window`, as a part of what it answers at a server without a queue.

        1 unless it is less by more than the latencies of answers vary.
        """
        slower = self._slower(window)
        variance = self.variance * (1 / window.answers + 1 / max(1, self._alone.answers))
        return 1.0 if slower - 1 < _SIGNIFICANT * math.sqrt(variance) else min(1.0, 1 / slower)

    def note_variance(self, window: Window) -> None:
        """Take the variance of `window` into account."""
        if window.answers > 1 and window.latency:
            mean, usual = window.latency / window.answers, self._alone.mean or window.latency / window.answers
            variance = max(0.0, window.squares / window.answers - mean**2) / usual**2
            variance = min(variance, _MOST_VARIANCE)
            self._known += window.answers - 1
            self.variance += (variance - self.variance) * (window.answers - 1) / self._known

    def keep(self, window: Window) -> None:
        """Keep what `window` tells of answers without a queue."""
        self.note_variance(window)
        alone = self._alone
        alone.answers += window.answers
        alone.latency += window.latency
        if alone.answers > _MOST_KEPT:
            self._alone = Window(0.0, alone.answers // 2, alone.latency / 2)


class Pace:
    """How many answers a server gives in a second, now and earlier.

    Args:
        began: Now.

    Attributes:
        answers: Number of answers since the pace was last compared.
    """

    def __init__(self, began: float) -> None:
        self.answers = 0
        self._began = began
        self._earlier, self._seconds = 0, 0.0

    def part(self, now: float, enough: float) -> float:
        """The pace now in that of earlier; 1 before `enough` answers came or were expected."""
        seconds = now - self._began
        expected = self._earlier / self._seconds * seconds if self._earlier else self.answers
        if seconds <= 0 or expected < enough:
            return 1.0
        part = self.answers / expected
        self._earlier += self.answers
        self._seconds += seconds
        self.answers, self._began = 0, now
        return part
