"""gRPC statuses as errors, classified by code."""

from lagent_llms import ConnectError, RateLimited, ServerError, StreamInterrupted
from lagent_llms.backends.triton.errors import call_error, status_error


def test_error_class_depends_on_the_status_code():
    assert isinstance(status_error("RESOURCE_EXHAUSTED", "full", "h:1"), RateLimited)
    assert status_error("UNAVAILABLE", "later", "h:1").status_code == 503
    assert isinstance(call_error("UNAVAILABLE", "x", "h:1", alive=False, begun=False), ConnectError)
    assert isinstance(call_error("UNAVAILABLE", "x", "h:1", alive=False, begun=True), StreamInterrupted)
    assert isinstance(call_error("UNAVAILABLE", "x", "h:1", alive=True, begun=True), ServerError)
