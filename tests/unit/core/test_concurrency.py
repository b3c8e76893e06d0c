"""The number of prompts in flight, and batches against a simulated server that has too few places."""

import heapq
import itertools
import random

import pytest

from lagent_llms import ConnectError, RateLimited, RetryPolicy, ServerError, TimeoutExceeded
from lagent_llms.core.concurrency import Concurrency
from lagent_llms.retry import Attempts, RetryBudget

SLOW = TimeoutExceeded("x", phase="first_token")


def test_an_overload_halves_the_number_once():
    state = Concurrency(64)
    sent = [state.enter() for _ in range(64)]
    assert state.wait() is None
    assert [state.failed(SLOW, cuts) for cuts in sent] == [True] * 64
    assert state.limit == 32
    for _ in sent:
        state.leave()
    assert state.wait() == 0


def test_only_what_is_in_flight_counts():
    state = Concurrency(64)
    sent = [state.enter() for _ in range(4)]
    assert state.failed(SLOW, sent[0])
    assert state.limit == 2


def test_a_prompt_alone_in_flight_fails_by_itself():
    state = Concurrency(64)
    assert not state.failed(SLOW, state.enter())
    assert state.limit == 64
    assert not Concurrency(1).failed(SLOW, 0)


@pytest.mark.parametrize("error", [ConnectError("x"), ServerError("x", status_code=500)])
def test_other_failures_are_no_overload(error):
    state = Concurrency(8)
    sent = [state.enter() for _ in range(8)]
    assert not state.failed(error, sent[0])
    assert state.limit == 8


def test_answers_regain_one_place_a_round_up_to_the_most():
    state = Concurrency(8)
    sent = [state.enter() for _ in range(8)]
    state.failed(SLOW, sent[0])
    state.answered(sent[1], 1.0)  # sent before the cut: says nothing of the present number
    assert state.limit == 4
    for _ in range(4):
        state.answered(state.enter(), 1.0)
    assert 4.9 < state.limit < 5.1
    for _ in range(100):
        state.answered(1, 1.0)
    assert state.limit == 8


def test_a_hold_ends_by_itself():
    now = [0.0]
    state = Concurrency(2, lambda: now[0])
    state.hold(20)
    state.hold(5)
    assert state.wait() == 20
    now[0] = 20
    assert state.wait() == 0


def simulate(prompts, seconds, timeout, most=64, rate=None):
    """Run a batch against a server that answers one prompt at a time, in `seconds`; return what was lost.

    The server drops prompts that were given up. With `rate` it refuses what exceeds one request in `rate`
    seconds, with Retry-After.
    """
    now, draw, number = [0.0], random.Random(1), itertools.count()

    def clock():
        return now[0]

    state, budget = Concurrency(most, clock), RetryBudget(clock)
    tries = {
        index: Attempts(RetryPolicy(), budget, in_batch=True, clock=clock, uniform=draw.uniform)
        for index in range(prompts)
    }
    events, ready, queue, answered, lost = [], list(range(prompts)), [], set(), {}
    current, attempt, accepted_at = [None], dict.fromkeys(range(prompts), 0), [-1e9]

    def at(delay, kind, *details):
        heapq.heappush(events, (now[0] + delay, next(number), kind, details))

    def serve():
        if current[0] is None and queue:
            current[0] = queue.pop(0)
            at(seconds, "answer", current[0])

    def fail(index, cuts, error):
        excused = state.failed(error, cuts)
        wait = tries[index].backoff(error, excused=excused)
        state.leave()
        if wait is None:
            lost[index] = str(error)
        else:
            state.hold(getattr(error, "retry_after", None) or 0)
            at(wait, "ready", index)

    while len(answered) + len(lost) < prompts:
        while ready and state.wait() == 0:
            index, cuts = ready.pop(0), state.enter()
            attempt[index] += 1
            if rate is not None and now[0] - accepted_at[0] < rate:
                fail(index, cuts, RateLimited("x", status_code=429, retry_after=rate))
                continue
            accepted_at[0] = now[0]
            queue.append((index, cuts, attempt[index]))
            at(timeout, "timeout", queue[-1])
            serve()
        if ready and (held := state.wait()):
            at(held, "look")
        now[0], _, kind, details = heapq.heappop(events)
        if kind == "ready":
            ready.append(details[0])
        elif kind in ("answer", "timeout"):
            job = index, cuts, number_of = details[0]
            if kind == "timeout" and number_of == attempt[index] and job in (*queue, current[0]):
                if job in queue:
                    queue.remove(job)
                else:
                    current[0] = None
                fail(index, cuts, TimeoutExceeded("x", phase="first_token"))
            elif kind == "answer" and current[0] == job:
                current[0] = None
                answered.add(index)
                state.answered(cuts, seconds)
                budget.answered()
                state.leave()
            serve()
    return lost


@pytest.mark.parametrize("timeout", [1.5, 3, 10, 30, 60])
def test_a_batch_loses_nothing_at_a_server_that_answers_one_a_second(timeout):
    assert simulate(100, 1.0, timeout) == {}


def test_a_large_batch_at_a_slow_server():
    assert simulate(2000, 1.0, 30) == {}


@pytest.mark.parametrize("rate", [2, 20])
def test_a_rate_limit_loses_nothing(rate):
    assert simulate(20, 0.5, 30, rate=rate) == {}


def test_a_server_that_never_answers_in_time_is_given_up():
    lost = simulate(100, 10.0, 5)
    assert len(lost) == 100
    assert all("attempts in" in message for message in lost.values() if "budget" not in message)
