"""Find how many prompts one server answers at once, from its throughput and its refusals. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ..errors import LLMError
from ..retry import is_overload
from .concurrency import Concurrency
from .latencies import Latencies, Pace, Window

__all__ = ["MOST_IN_FLIGHT", "AdaptiveConcurrency", "Found"]

#: Statuses of a server that refuses a request because it has too many.
_REFUSALS = (429, 503)
#: Most prompts in flight at one server.
MOST_IN_FLIGHT = 512
#: A window counts if so many of the places were taken on average: else the batch had too few prompts.
_FULL = 0.7
#: A server has room while a place answers this part of what it answered alone; growth ends below the second.
_ROOM, _SATURATED, _QUEUE = 0.85, 0.75, 0.5
#: Fewest answers of a window of the growth, by the variance of latencies.
_PER_VARIANCE, _PER_EXIT = 4, 8
#: Below this variance latencies are steady.
_STEADY = 0.25
#: What growth leaves as the number in flight, in estimated slots.
_SPARE = 1.3
#: What a rejected higher number leaves, in estimated slots.
_FILL = 1.05
#: A step is worth it if the throughput changes by this part of what the number in flight does.
_WORTH, _CLEAR = 0.3, 0.6
#: Fewest answers of a window after the growth; a later probe needs up to so many.
_EVIDENCE, _MOST_EVIDENCE = 8, 64
#: Most windows between two probes; from the second number on, a lower number is known to be worse.
_MOST_PATIENCE, _SURE = 16, 8
#: The throughput has fallen if this many answers were expected and only this part of them came.
_EXPECTED, _FALLEN = 48, 0.5
#: What a fall leaves of the number in flight, in parts of what is left of the throughput.
_AFTER_FALL = 0.7
#: A Retry-After stops all probes for this many times its length.
_REST = 20


class Found(NamedTuple):
    """What a batch has found.

    Attributes:
        limit: The number of prompts in flight.
        answers: Number of answers without a queue at the server.
        latency: Seconds that they took, together.
    """

    limit: int
    answers: int
    latency: float


class _Phase(Enum):
    GROW = "double the number while the throughput grows"
    HOLD = "measure the throughput"
    UP = "probe a higher number"
    DOWN = "probe a lower number"


class AdaptiveConcurrency(Concurrency):
    """The number of prompts in flight at one server, found while they run.

    The number begins at 1 and doubles from window to window while the throughput grows with it. By Little's
    law a place answers at a steady rate while the server has room, and at a lower one once prompts queue;
    the quotient estimates the server's slots, and growth ends there. Afterwards the number is held, with rare
    probes of a higher number (without a queue) or a lower one, kept if the throughput grows or does not fall.
    If the throughput falls by itself, the number is cut. A refusal (429, 503) tells the slots exactly: the
    prompts in flight that were not refused. Any other overload halves the number, as in `Concurrency`.

    Args:
        most: Most prompts in flight.
        clock: A monotonic clock, in seconds.
        found: What an earlier batch has found: growth begins at half of that.
    """

    def __init__(
        self,
        most: int = MOST_IN_FLIGHT,
        clock: Callable[[], float] = time.monotonic,
        *,
        found: Found | None = None,
    ) -> None:
        super().__init__(most, clock)
        self.limit = 1.0
        self._phase = _Phase.GROW
        self._latencies = Latencies()
        if found is not None:
            self.limit = float(max(1, found.limit // 2))
            self._latencies = Latencies(found.answers, found.latency)
        self._before = 1.0  # the limit before growth or a probe
        self._rate: float | None = None  # answers a second while the number is held
        self._held = 0.0  # the mean number in flight meanwhile
        self._next_probe = _Phase.DOWN
        self._patience = 1
        self._refused = False  # more than the limit were refused
        self._rest_until = float("-inf")
        self._counted_at = clock()
        self._window, self._pace = Window(), Pace(0.0)
        self._draining = False  # more than the limit are in flight
        self._sent_after = 0.0  # only prompts that were sent after this count
        self._settling = 0.0  # so many further answers do not count
        self._needed = 0.0  # answers of a window
        self._measure()
        self._settling = 1.0  # the first answer may have waited for a connection, or for the model

    @property
    def found(self) -> Found:
        """What was found so far."""
        return Found(int(self.limit), *self._latencies.found)

    def enter(self) -> int:
        """See `Concurrency.enter`."""
        self._count()
        return super().enter()

    def leave(self) -> None:
        """See `Concurrency.leave`."""
        self._count()
        super().leave()
        if self._draining and self.in_flight <= self.limit:
            self._measure()

    def answered(self, cuts: int, seconds: float) -> None:
        """Count an answer, and decide at the end of a window."""
        if self._draining:
            return
        self._pace.answers += 1
        now = self._clock()
        if now - seconds < self._sent_after:
            return
        if self._settling > 0:
            self._settling -= 1
            if self._settling <= 0:
                self._counted_at = now
                self._window = Window(now)
            return
        window = self._window
        window.answers += 1
        window.latency += seconds
        window.squares += seconds * seconds
        if window.answers >= self._needed or self._is_far_too_high(window):
            self._count()
            self._decide(window)
        elif self._phase is _Phase.HOLD:
            self._check_rate()

    def failed(self, error: LLMError, cuts: int) -> bool:
        """See `Concurrency.failed`; a refusal sets the number to that of the other prompts in flight."""
        if not is_overload(error):
            return False
        before = self.limit
        if getattr(error, "status_code", None) not in _REFUSALS:
            excused = super().failed(error, cuts)
        elif excused := self.in_flight > 1:
            self.limit = min(self.limit, float(self.in_flight - 1))
            self._refused = True
        if self.limit < before:
            if self._phase is _Phase.UP:
                self._be_patient()
            self._rate = None
            self._set(self.limit, _Phase.HOLD)
        return excused

    def hold(self, seconds: float) -> None:
        """See `Concurrency.hold`."""
        super().hold(seconds)
        if seconds:
            self._rest_until = max(self._rest_until, self._clock() + _REST * seconds)
            self._measure()

    def _count(self) -> None:
        """Add the seconds since the last change of the number in flight."""
        now = self._clock()
        self._window.taken += self.in_flight * (now - self._counted_at)
        self._counted_at = now

    def _measure(self) -> None:
        """Begin a window, once no more than the limit are in flight."""
        self._counted_at = now = self._clock()
        self._window, self._pace = Window(now), Pace(now)
        self._draining = self.in_flight > self.limit
        self._sent_after = -math.inf
        if self._phase is _Phase.GROW:
            self._needed = max(2.0, self.limit, _PER_VARIANCE * self._latencies.variance)
            self._settling = 0.0
            if self._latencies.variance < _STEADY:
                self._sent_after = now  # prompts that were in flight before tell nothing of the new number
            else:
                self._settling = self.limit - self._before  # short answers come first
        else:
            self._settling = self.limit
            self._needed = max(self.limit, self._doubt * min(_EVIDENCE * self._patience, _MOST_EVIDENCE))
            if self._phase is _Phase.HOLD:
                self._needed = max(self.limit, self._doubt * _EVIDENCE) * self._patience

    @property
    def _doubt(self) -> float:
        """How many times as many answers are needed because latencies vary."""
        return max(1.0, 2 * self._latencies.variance)

    def _set(self, limit: float, phase: _Phase) -> None:
        self.limit = float(max(1, min(self.most, round(limit))))
        self._phase = phase
        self._measure()

    def _is_far_too_high(self, window: Window) -> bool:
        """Whether the window can end early, because most prompts queue."""
        known = self._phase in (_Phase.UP, _Phase.DOWN) or self._patience > 1
        enough = window.answers >= _PER_EXIT * self._latencies.variance
        return not known and enough and self._latencies.usage(window) < _QUEUE

    def _be_patient(self) -> None:
        self._patience = min(2 * self._patience, _MOST_PATIENCE)

    def _decide(self, window: Window) -> None:
        seconds = self._counted_at - window.began
        if seconds > 0 and window.taken < _FULL * self.limit * seconds:
            self._measure()
        elif self._phase is _Phase.GROW:
            self._grow(window)
        else:
            in_flight = window.taken / seconds if seconds > 0 else self.limit
            rate = in_flight * window.answers / max(window.latency, 1e-9)
            if self._phase is _Phase.HOLD:
                self._rate, self._held = rate, in_flight
                self._probe(self._note(window))
            else:
                self._end_probe(window, rate, in_flight)

    def _note(self, window: Window) -> float:
        """Return the `_usage`; keep what `window` tells of answers without a queue."""
        alone, latencies = self.limit == 1, self._latencies
        usage = 1.0 if alone else latencies.usage(window)
        if usage >= _ROOM and (alone or not latencies.is_doubtful(window)):
            latencies.keep(window)
        elif self._phase is not _Phase.GROW:
            latencies.note_variance(window)
        return usage

    def _grow(self, window: Window) -> None:
        usage = self._note(window)
        if usage >= _SATURATED and self.limit < self.most:
            self._double(usage)
        else:
            self._set(max(self._before, _SPARE * usage * self.limit), _Phase.HOLD)

    def _double(self, usage: float) -> None:
        self._patience = 1
        self._before = self.limit
        self._set(max(self.limit + 1, 2 * usage**2 * self.limit), _Phase.GROW)

    def _probe(self, usage: float) -> None:
        """Try another number: a higher one if prompts do not queue, or if a lower one is worse."""
        limit = self._before = self.limit
        higher = limit + max(1, limit // (20 if self._refused else 2))
        has_room = usage >= _ROOM or self._refused
        if not has_room and self._next_probe is _Phase.UP:
            has_room = higher <= 2 * usage * limit or self._patience >= _SURE
        if self._clock() < self._rest_until or (has_room and limit == self.most):
            self._measure()
        elif has_room or limit == 1:
            self._set(higher, _Phase.UP)
        else:
            lower = max(limit / 2, _SPARE * usage * limit)
            self._set(min(lower, limit - max(1, limit // 3)), _Phase.DOWN)

    def _end_probe(self, window: Window, rate: float, in_flight: float) -> None:
        assert self._rate is not None
        usage = self._note(window)
        more = in_flight / self._held - 1
        worth = (rate / self._rate - 1) / more if more else 0.0
        up = self._phase is _Phase.UP
        if up and self._refused:
            self._refused, keep = False, True  # it was not refused
        else:
            keep = (worth >= _WORTH) == up
        if not keep:
            if not up and usage < _ROOM and worth >= _CLEAR:
                self._latencies.keep(window)  # the throughput falls with the number: there was no queue
            self._be_patient()
            self._next_probe = _Phase.DOWN if up else _Phase.UP
            # A queue tells how many places are used.
            slots = _FILL * usage * self.limit if up and usage < _ROOM else 0.0
            self._set(max(self._before, slots), _Phase.HOLD)
            return
        if not up:
            self._patience = 1
        self._rate, self._held = rate, in_flight
        if up and usage >= _SATURATED:
            self._double(usage)
        else:
            self._set(self.limit, _Phase.HOLD)

    def _check_rate(self) -> None:
        """Cut the number if the server answers far fewer prompts than before, since the number is held."""
        enough = max(self._doubt * _EXPECTED, 3 * self.limit)  # answers may come in bursts
        part = self._pace.part(self._clock(), enough)
        if part < _FALLEN:
            self._latencies.forget()
            self._patience = 1
            # The window began before the fall, so that less is left than it tells.
            self._set(_AFTER_FALL * part * self.limit, _Phase.HOLD)
