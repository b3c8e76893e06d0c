"""Retryable errors and their backoff."""

from lagent_llms import ConnectError, RateLimited, ServerError, StreamInterrupted, TimeoutExceeded
from lagent_llms.http.retry import RetryPolicy


def test_backoff_grows_and_only_retryable_errors_have_one():
    policy = RetryPolicy(3, base=1, max_backoff=3, uniform=lambda low, high: high)
    assert [policy.backoff(ConnectError("x"), attempt) for attempt in range(4)] == [1, 2, 3, None]
    assert policy.backoff(RateLimited("x", status_code=429, retry_after=2.5), 0) == 2.5
    assert policy.backoff(RateLimited("x", status_code=429, retry_after=60), 0) is None
    assert policy.backoff(ServerError("x", status_code=503, retry_after=2.5), 0) == 2.5
    assert policy.backoff(ServerError("x", status_code=503), 0) == 1
    assert policy.backoff(TimeoutExceeded("x", phase="connect"), 0) == 1
    for error in (
        ServerError("x", status_code=500),
        StreamInterrupted("x"),
        TimeoutExceeded("x", phase="idle"),
    ):
        assert policy.backoff(error, 0) is None
