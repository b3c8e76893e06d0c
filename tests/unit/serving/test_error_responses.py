"""Messages of error responses: no long values, no details of failures on this side."""

import pytest

from lagent_llms.errors import ConnectError, InvalidArgument, RateLimited, ServerError, TimeoutExceeded
from lagent_llms.serving.error_responses import clipped, error_response


@pytest.mark.parametrize(
    "value", ["x" * 10**6, "word " * 10**5, "'" * 10**6, '"a" ' * 10**5, "x" * 201, "a'b" * 1000]
)
def test_long_values_are_cut(value):
    for message in (f"{value} is wrong", f"n={value!r}: allowed is 1", f"model '{value}': unknown"):
        assert value not in clipped(message)
        assert len(clipped(message)) <= 601


def test_ordinary_messages_stay_as_they_are():
    message = "max_tokens=5000: allowed are 1 to 2048, the model's context length (tokens); it's the model's"
    assert clipped(message) == message


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("/secret/path"), 500, "server_error"),
        (ConnectError("http://10.0.0.7:1/secret"), 502, "upstream_unreachable"),
        (ServerError("/secret/path", status_code=500), 502, "upstream_error"),
        (TimeoutExceeded("JAXPipeline('/secret/path')"), 504, "timeout"),
    ],
)
def test_failures_on_this_side_are_named_by_the_request(error, status, code):
    response = error_response(error, "id-1")
    assert response.status == status
    assert response.body["error"]["code"] == code
    assert "id-1" in response.body["error"]["message"]
    assert "secret" not in response.body["error"]["message"]


def test_errors_of_the_caller_keep_their_message():
    response = error_response(InvalidArgument("n=3: allowed is 1", argument="n"), "id-1")
    assert response.body["error"]["message"] == "n=3: allowed is 1"
    assert response.body["error"]["param"] == "n"


@pytest.mark.parametrize(("given", "status"), [(503, 503), (429, 429), (None, 429)])
def test_an_overload_says_when_to_come_back(given, status):
    response = error_response(RateLimited("full", status_code=given, retry_after=3), "id-1")
    assert (response.status, response.headers) == (status, {"Retry-After": "3"})
