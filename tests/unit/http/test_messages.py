"""Parsing of error responses, and the errors made from them."""

import json

import pytest

from lagent_llms import AuthenticationError, ContextLengthExceeded, NotFound, RateLimited, ServerError
from lagent_llms.http.messages import Refusal, ResponseHead, read_refusal, server_error


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"error": {"message": "no", "type": "t", "code": "c"}}, "no", "c"),
        ({"error": "no", "error_type": "validation"}, "no", "validation"),
        ({"object": "error", "message": "no", "code": 400, "type": "bad", "param": None}, "no", "400"),
        ({"detail": {"error": {"message": "no", "code": "invalid_api_key"}}}, "no", "invalid_api_key"),
        ({"detail": [{"loc": ["body", "top_p"], "msg": "too big"}]}, "body.top_p: too big", ""),
        ({"error_code": 10402, "text": "timeout"}, "timeout", "10402"),
        ({"detail": "Not Found"}, "Not Found", ""),
        (["?"], '["?"]', ""),
        ([{"error": {"message": "no", "status": "X", "code": 400}}], "no", "400"),  # Gemini
        ({"error": {"message": "no"}, "code": 429}, "no", "429"),
        ({"errors": [{"message": "no"}]}, "no", ""),
        ({"error": ["no", "never"]}, "no; never", ""),
        ({"msg": "no", "code": 0}, "no", ""),
        ({"error": {"message": "x", "code": 502, "metadata": {"raw": "no"}}}, "x: no", "502"),
    ],
)
def test_read_refusal_parses_every_form(body, message, code):
    assert read_refusal(json.dumps(body).encode()) == Refusal(message, code)


def test_read_refusal_accepts_plain_text():
    assert read_refusal(b"Internal Server Error\n") == Refusal("Internal Server Error")
    assert read_refusal(b"\xff").message == "\ufffd"
    assert read_refusal(b'data: {"error": "no"}\n\n') == Refusal("no")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "", AuthenticationError),
        (403, "", AuthenticationError),
        (404, "", NotFound),
        (429, "", RateLimited),
        (400, "context_length_exceeded", ContextLengthExceeded),
        (400, "", ServerError),
        (500, "", ServerError),
        (None, "", ServerError),
    ],
)
def test_error_class_depends_on_status_and_code(status, code, kind):
    error = server_error(status, Refusal("maximum context length 401 rate limit", code), where="http://x/v1")
    assert type(error) is kind
    assert error.status_code == status
    assert "http://x/v1" in str(error)


def test_retry_after():
    assert ResponseHead(429, {"retry-after": "1.5"}).retry_after == 1.5
    assert ResponseHead(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}).retry_after == 0
    assert ResponseHead(429, {"retry-after": "soon"}).retry_after is None
    assert ResponseHead(429, {}).retry_after is None
