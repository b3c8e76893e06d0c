"""Which failures are retried, after which waits, and what the error says in the end."""

import pickle

import pytest

from lagent_llms import (
    ConnectError,
    ContextLengthExceeded,
    InvalidArgument,
    LMDeployClient,
    RateLimited,
    RetryPolicy,
    ServerError,
    StreamInterrupted,
    TimeoutExceeded,
    create_llm,
)
from lagent_llms.retry import Attempts, RetryBudget, is_overload


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def attempts(policy=None, *, clock=None, budget=None, **kwargs):
    """Attempts whose waits are the longest possible."""
    clock = clock or Clock()
    return Attempts(
        policy or RetryPolicy(),
        budget or RetryBudget(clock),
        clock=clock,
        uniform=lambda low, high: high,
        **kwargs,
    )


def busy(status=503, retry_after=None):
    return ServerError("busy", status_code=status, retry_after=retry_after)


RETRIED = {
    "no connection": ConnectError("x"),
    "connect timeout": TimeoutExceeded("x", phase="connect"),
    "first token": TimeoutExceeded("x", phase="first_token"),
    "broken connection": StreamInterrupted("x"),
    "rate limit": RateLimited("x", status_code=429),
    **{str(status): busy(status) for status in (408, 409, 425, 500, 502, 503, 504)},
}
NOT_RETRIED = {
    "total": TimeoutExceeded("x", phase="total"),
    "too long": ContextLengthExceeded("x", status_code=500),
    "no status": ServerError("x"),
    "bad argument": InvalidArgument("x"),
    **{str(status): busy(status) for status in (400, 401, 403, 404, 422, 501)},
}
#: What the server cannot have executed.
NOT_EXECUTED = {
    "no connection",
    "connect timeout",
    "rate limit",
    "408",
    "409",
    "425",
    "500",
    "502",
    "503",
    "504",
}


@pytest.mark.parametrize("name", [*RETRIED, *NOT_RETRIED])
def test_the_table_of_failures(name):
    error = {**RETRIED, **NOT_RETRIED}[name]
    assert (attempts().backoff(error) is not None) == (name in RETRIED)
    assert (attempts().backoff(error, repeatable=False) is not None) == (name in NOT_EXECUTED)


def test_once_an_answer_has_begun_only_a_prompt_of_a_batch_is_retried():
    for error in (StreamInterrupted("x"), TimeoutExceeded("x", phase="idle")):
        assert attempts().backoff(error, begun=True) is None
        assert attempts(in_batch=True).backoff(error, begun=True) is not None


def test_kinds_can_be_left_out():
    policy = RetryPolicy(statuses=[503], broken_connections=False, timeouts=False)
    for name, error in RETRIED.items():
        assert policy.covers(error, repeatable=True) == (name in ("no connection", "503")), name


def test_backoff_grows_up_to_its_ceiling_and_has_full_jitter():
    tries = attempts(RetryPolicy(max_retries=5, base=1, max_backoff=3))
    assert [tries.backoff(busy()) for _ in range(6)] == [1, 2, 3, 3, 3, None]
    drawn = []
    tries = Attempts(RetryPolicy(), RetryBudget(), uniform=lambda low, high: drawn.append((low, high)) or low)
    assert tries.backoff(busy()) == 0
    assert drawn == [(0, 0.5)]


@pytest.mark.parametrize(("in_batch", "retries", "longest"), [(False, 2, 60), (True, 8, 300)])
def test_defaults_in_calls_and_batches(in_batch, retries, longest):
    tries = attempts(in_batch=in_batch)
    count = 0
    while tries.backoff(busy()) is not None:
        count += 1
    assert count == retries
    assert attempts(in_batch=in_batch).backoff(busy(429, longest)) == longest + 0.5
    error = busy(429, longest + 1)
    assert attempts(in_batch=in_batch).backoff(error) is None
    assert f"asks to wait {longest + 1} s, retry=RetryPolicy(max_wait={longest}) allows no longer" in str(
        error
    )


def test_the_error_says_how_often_how_long_and_which_parameter():
    clock = Clock()
    tries = attempts(RetryPolicy(max_retries=1), clock=clock)
    assert tries.backoff(ConnectError("refused")) is not None
    clock.now += 12.5
    error = busy()
    assert tries.backoff(error) is None
    assert str(error) == (
        "busy (after 2 attempts in 12.5 s: retry=RetryPolicy(max_retries=1) allows no more)"
    )
    assert error.attempts == 2
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.attempts, again.status_code) == (str(error), 2, 503)
    first = ServerError("bad", status_code=400)
    assert (attempts().backoff(first), str(first), first.attempts) == (None, "bad", 1)


def test_without_retries_the_error_stays_as_it_is():
    error = busy(429, 500)
    assert attempts(RetryPolicy(max_retries=0)).backoff(error) is None
    assert str(error) == "busy"


def test_no_wait_outlasts_the_total_timeout():
    clock = Clock()
    tries = attempts(clock=clock, total=10)
    assert tries.backoff(busy(429, 5)) == 5.5
    clock.now += 5.5
    error = busy(429, 5)
    assert tries.backoff(error) is None
    assert "timeout=Timeout(total=10) ends before a retry" in str(error)


def test_the_budget_ends_a_storm_and_is_regained():
    clock = Clock()
    budget = RetryBudget(clock)
    policy = RetryPolicy(budget=3)
    waits = [attempts(policy, clock=clock, budget=budget).backoff(busy()) for _ in range(4)]
    assert [wait is not None for wait in waits] == [True, True, True, False]
    error = busy()
    attempts(policy, clock=clock, budget=budget).backoff(error)
    assert "retry=RetryPolicy(budget=3) is spent" in str(error)
    clock.now += 1
    assert attempts(policy, clock=clock, budget=budget).backoff(busy()) is not None
    for _ in range(5):
        budget.answered()
    assert attempts(policy, clock=clock, budget=budget).backoff(busy()) is not None
    assert attempts(policy, clock=clock, budget=budget).backoff(busy()) is None


def test_excused_failures_spend_nothing_but_end():
    clock = Clock()
    budget = RetryBudget(clock)
    tries = attempts(RetryPolicy(max_retries=2, budget=2), clock=clock, budget=budget, in_batch=True)
    waits = [tries.backoff(busy(), excused=True) for _ in range(5)]
    assert [wait is not None for wait in waits] == [True, True, True, True, False]
    assert not budget.take(2)


def test_signs_of_overload():
    assert all(map(is_overload, (busy(429), busy(503), RETRIED["first token"])))
    assert not any(map(is_overload, (busy(500), ConnectError("x"))))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_retry": 1}, "retry: unknown key 'max_retry', did you mean 'max_retries'"),
        ({"max_retries": -1}, r"RetryPolicy\.max_retries=-1: allowed is"),
        ({"statuses": [200]}, r"RetryPolicy\.statuses=200: allowed is"),
        ({"statuses": 503}, r"RetryPolicy\.statuses=503: allowed is a list"),
        ({"base": "x"}, r"RetryPolicy\.base='x'"),
        (True, r"retry=True: allowed is RetryPolicy"),
    ],
)
def test_bad_policies_are_refused(given, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        LMDeployClient("http://x", retry=given)
    assert caught.value.argument == "retry"


def test_one_place_in_code_and_configs(tmp_path):
    policy = RetryPolicy(max_retries=5, max_wait=120, statuses=(503,))
    path = tmp_path / "llm.yaml"
    path.write_text(
        "type: LMDeployClient\nurl: http://x\nretry: {max_retries: 5, max_wait: 120, statuses: [503]}\n"
        "timeout: {first_token: 300}\n"
    )
    llm = create_llm(path)
    assert llm.options.retry == policy == LMDeployClient("http://x", retry=policy).options.retry
    assert (llm.options.timeout.first_token, llm.options.timeout.idle) == (300, 30)
    assert llm.prepare("x", {"retry": {"max_retries": 0}}).request.options.retry.max_retries == 0
    assert LMDeployClient("http://x", max_retries=7).options.retry == RetryPolicy(max_retries=7)
    with pytest.raises(InvalidArgument, match="max_retries and retry are both given"):
        LMDeployClient("http://x", max_retries=7, retry=policy)
