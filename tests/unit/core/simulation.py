"""A simulated server and a batch at it, in virtual time: nothing waits, nothing is random but by its seed."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from lagent_llms import RateLimited, RetryPolicy
from lagent_llms.retry import Attempts, RetryBudget


@dataclass
class Outcome:
    """What happened: answers by their time, prompts lost, and how long too many were in flight."""

    answered: int = 0
    lost: int = 0
    longest_excess: float = 0.0
    limits: list = field(default_factory=list)
    busy: list = field(default_factory=list)

    def usage(self, begin, end):
        """The part of the slots that was busy from `begin` to `end`."""
        used = sum(
            part * (min(until, end) - max(since, begin))
            for since, until, part in self.busy
            if until > begin and since < end
        )
        return used / (end - begin)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def constant(draw):
    return 1.0


def jittered(draw):
    return draw.uniform(0.8, 1.2)


def heavy_tailed(draw):
    return draw.lognormvariate(-0.5, 1.0)  # mean 1, standard deviation 1.3


def run(
    limiter, clock, seconds, slots, latency=jittered, *, refuses=False, retry_after=None, changes=(), seed=1
):
    """Send prompts without end for `seconds` to a server that answers `slots` at once; return the outcome.

    Further prompts wait at the server, or are refused. `changes` are (time, slots).
    """
    draw, number = random.Random(seed), itertools.count()
    budget, outcome = RetryBudget(clock), Outcome()
    events, waiting, ready, busy, excess_since = [], [], [], 0, None

    def at(delay, kind, *details):
        heapq.heappush(events, (clock.now + delay, next(number), kind, details))

    for when, count in changes:
        heapq.heappush(events, (when, next(number), "slots", (count,)))

    def attempts():
        return Attempts(RetryPolicy(), budget, in_batch=True, clock=clock, uniform=draw.uniform)

    while clock.now < seconds:
        while limiter.wait() == 0:
            tries = ready.pop() if ready else attempts()
            cuts = (limiter.enter(), clock.now)
            if busy < slots:
                busy += 1
                at(latency(draw), "answer", tries, cuts)
            elif refuses:
                at(0.001, "refuse", tries, cuts)
            else:
                waiting.append((tries, cuts))
        if held := limiter.wait():
            at(held, "look")
        if limiter.in_flight > 2 * slots:
            excess_since = clock.now if excess_since is None else excess_since
        elif excess_since is not None:
            outcome.longest_excess = max(outcome.longest_excess, clock.now - excess_since)
            excess_since = None
        if not outcome.limits or outcome.limits[-1][1] != limiter.limit:
            outcome.limits.append((round(clock.now, 2), limiter.limit))
        since = clock.now
        clock.now, _, kind, details = heapq.heappop(events)
        outcome.busy.append((since, clock.now, min(busy / slots, 1.0)))
        if kind == "answer":
            busy -= 1
            budget.answered()
            outcome.answered += 1
            limiter.answered(details[1][0], clock.now - details[1][1])
            limiter.leave()
        elif kind == "refuse":
            tries, cuts = details
            error = RateLimited("x", status_code=429, retry_after=retry_after)
            excused = limiter.failed(error, cuts[0])
            wait = tries.backoff(error, excused=excused)
            limiter.hold(retry_after or 0.0)
            limiter.leave()
            if wait is None:
                outcome.lost += 1
            else:
                at(wait, "ready", tries)
        elif kind == "ready":
            ready.append(details[0])
        elif kind == "slots":
            slots = details[0]
        while waiting and busy < slots:
            tries, cuts = waiting.pop(0)
            busy += 1
            at(latency(draw), "answer", tries, cuts)
    if excess_since is not None:
        outcome.longest_excess = max(outcome.longest_excess, clock.now - excess_since)
    return outcome
