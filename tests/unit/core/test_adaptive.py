"""The number in flight that is found at simulated servers: throughput, losses, and excess over the slots."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagent_llms import RateLimited, ServerError, TimeoutExceeded
from lagent_llms.core.adaptive import MOST_IN_FLIGHT, AdaptiveConcurrency

from .simulation import Clock, constant, heavy_tailed, jittered, run


def outcome_of(slots, latency=jittered, seconds=120, **server):
    clock = Clock()
    limiter = AdaptiveConcurrency(clock=clock)
    return run(limiter, clock, seconds, slots, latency, **server), limiter


@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
@pytest.mark.parametrize("latency", [constant, jittered])
@pytest.mark.parametrize("slots", [1, 2, 3, 7, 30, 100])
def test_the_slots_are_used_and_not_exceeded(slots, latency, refuses):
    outcome, _ = outcome_of(slots, latency, refuses=refuses)
    assert outcome.usage(60, 120) >= 0.95
    assert outcome.longest_excess <= 10
    assert outcome.lost == 0


@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
def test_many_slots(refuses):
    outcome, _ = outcome_of(MOST_IN_FLIGHT, seconds=60, refuses=refuses)
    assert outcome.usage(40, 60) >= 0.95
    assert outcome.longest_excess <= 10
    assert outcome.lost == 0


@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
@pytest.mark.parametrize("slots", [8, 64])
def test_answers_of_very_different_lengths(slots, refuses):
    outcome, _ = outcome_of(slots, heavy_tailed, 150, refuses=refuses)
    assert outcome.usage(75, 150) >= 0.9
    assert outcome.lost == 0


@settings(max_examples=15, deadline=None)
@given(
    slots=st.integers(1, 24), seed=st.integers(0, 10_000), refuses=st.booleans(), seconds=st.floats(0.01, 5)
)
def test_any_small_server(slots, seed, refuses, seconds):
    """Whatever the scale of time is, slots are used and nothing is lost."""
    outcome, limiter = outcome_of(
        slots, lambda draw: seconds * jittered(draw), 150 * seconds, refuses=refuses, seed=seed
    )
    assert outcome.lost == 0
    assert outcome.usage(75 * seconds, 150 * seconds) >= 0.85 if seconds > 0.5 else outcome.answered
    assert 1 <= limiter.limit <= MOST_IN_FLIGHT


@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
@pytest.mark.parametrize(("before", "after"), [(64, 16), (16, 64)])
def test_a_server_that_changes(before, after, refuses):
    outcome, _ = outcome_of(before, seconds=200, refuses=refuses, changes=[(60, after)])
    assert outcome.usage(40, 60) >= 0.95
    assert outcome.usage(140, 200) >= 0.95
    assert outcome.longest_excess <= 15  # until the fall is measured and the surplus answered
    assert outcome.lost == 0


def test_a_refusal_with_retry_after_stops_probes_for_long():
    outcome, _ = outcome_of(20, refuses=True, retry_after=1.0)
    assert outcome.usage(60, 120) >= 0.9
    assert outcome.lost == 0


def test_a_refusal_leaves_what_was_not_refused():
    limiter = AdaptiveConcurrency(clock=Clock())
    limiter.limit = 8.0
    for _ in range(8):
        limiter.enter()
    for _ in range(3):
        assert limiter.failed(RateLimited("x", status_code=429), 0)
        limiter.leave()
    assert (limiter.limit, limiter.in_flight) == (5, 5)
    assert not limiter.failed(ServerError("x", status_code=500), 0)
    assert limiter.limit == 5


def test_a_refusal_of_the_only_prompt_is_its_own():
    limiter = AdaptiveConcurrency(clock=Clock())
    assert not limiter.failed(RateLimited("x", status_code=429), limiter.enter())
    assert limiter.limit == 1


def test_a_timeout_halves_the_number():
    limiter = AdaptiveConcurrency(clock=Clock())
    limiter.limit = 8.0
    cuts = [limiter.enter() for _ in range(8)]
    assert all(limiter.failed(TimeoutExceeded("x", phase="first_token"), cut) for cut in cuts)
    assert limiter.limit == 4


def test_a_batch_with_few_prompts_does_not_grow():
    clock = Clock()
    limiter = AdaptiveConcurrency(clock=clock)
    for _ in range(200):
        for _ in range(2):  # fewer than would be allowed soon
            limiter.enter()
        clock.now += 1
        for _ in range(2):
            limiter.answered(0, 1.0)
            limiter.leave()
    assert limiter.limit <= 4


def test_the_next_batch_begins_with_half_of_what_was_found():
    _, limiter = outcome_of(40)
    again = AdaptiveConcurrency(found=limiter.found)
    assert again.limit == limiter.limit // 2 > 15
