"""Parsing of error responses, and the errors made from them."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    "body",
    [
        b"<!---->" * 1000 + b"x",
        b"<html><title>" + b" " * 100_000,
        b"<html>" + b"<title>" * 100_000,
        b"<html>" + b"<title" * 100_000,
        b"<html><title>" + b"<" * 100_000 + b"</title>",
    ],
    ids=["comments", "blanks", "titles", "tags", "brackets"],
)
def test_a_page_is_read_in_linear_time(body):
    started = time.process_time()
    read_refusal(body, ResponseHead(502, {}, path="/v1/completions"))
    assert time.process_time() - started < 10


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


def test_a_context_that_is_too_long_by_the_parameter_that_the_error_names():
    body = b'{"error": {"message": "too long", "param": "input_tokens", "code": 400}}'
    assert type(server_error(400, read_refusal(body))) is ContextLengthExceeded  # vLLM 0.32


def test_retry_after():
    assert ResponseHead(429, {"retry-after": "1.5"}).retry_after == 1.5
    assert ResponseHead(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}).retry_after == 0
    assert ResponseHead(429, {"retry-after": "soon"}).retry_after is None
    assert ResponseHead(429, {}).retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120), ("0", 0), ("7.", 7), ("9" * 400, 366 * 86400), ("1" * 5000, 366 * 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 366 * 86400), ("Mon, 1 Jan 0001 00:00:00 +2359", 0),
        ("nan", None), ("inf", None), ("-5", None), ("1e3", None), ("1_0", None), ("\u0661", None),
        ("1 2", None),
        ("Wed, 1 Oct 2015 99999999999999999999:28:00 GMT", None),
        ("Wed, 99999999999999999999 Oct 2015", None),
        ("Wed, 1 Oct 99999999999 07:28:00 GMT", None), ("Wed, 1 Oct 2015 07:28:00 +99999999", None),
        (",", None),
    ],
)  # fmt: skip
def test_absurd_retry_after(value, seconds):
    assert ResponseHead(429, {"retry-after": value}).retry_after == seconds


@given(
    st.text(st.characters(max_codepoint=255)) | st.from_regex(r"(Mon, )?\d+ Jan \d+ \d+:\d+(:\d+)? [-+]?\w+")
)
def test_any_retry_after_is_a_sane_number_or_none(value):
    seconds = ResponseHead(429, {"retry-after": value}).retry_after
    assert seconds is None or 0 <= seconds <= 366 * 86400


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["error", "detail", "message", "code", "type", "loc", "msg", "text"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_a_refusal(body):
    refusal = read_refusal(body)
    assert isinstance(server_error(422, refusal), ServerError)
    assert len(refusal.message) <= 2000


def test_long_messages_and_codes_are_cut():
    refusal = read_refusal(json.dumps({"message": "m" * 9999, "code": "c" * 9999}).encode())
    assert (len(refusal.message), len(refusal.code)) == (2000, 200)
