"""Which errors are retried, and after which pause."""

from lagent_llms import ConnectError, RateLimited, ServerError, StreamInterrupted, TimeoutExceeded
from lagent_llms.http.retry import RetryPolicy


def test_what_may_pass_is_tried_again_after_a_growing_pause():
    policy = RetryPolicy(3, base=1, longest=3, uniform=lambda low, high: high)
    assert [policy.pause(ConnectError("x"), attempt) for attempt in range(4)] == [1, 2, 3, None]
    assert policy.pause(RateLimited("x", status_code=429, retry_after=2.5), 0) == 2.5
    assert policy.pause(RateLimited("x", status_code=429, retry_after=60), 0) is None
    assert policy.pause(ServerError("x", status_code=503, retry_after=2.5), 0) == 2.5
    assert policy.pause(ServerError("x", status_code=503), 0) == 1
    assert policy.pause(TimeoutExceeded("x", phase="connect"), 0) == 1
    for error in (
        ServerError("x", status_code=500),
        StreamInterrupted("x"),
        TimeoutExceeded("x", phase="idle"),
    ):
        assert policy.pause(error, 0) is None
