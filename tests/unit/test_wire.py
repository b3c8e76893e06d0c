"""The pure half of HTTP: events and chunks however they are cut, refusals, retries, servers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import (
    AuthenticationError,
    ConnectError,
    ContextLengthExceeded,
    InvalidArgument,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.http.endpoints import Endpoints, check_url
from lagent_llms.http.exchange import READ, BodyDecoder, Call, Exchange, Pause, Send
from lagent_llms.http.messages import HTTPRequest, Refusal, ResponseHead, read_refusal, server_error
from lagent_llms.http.retry import RetryPolicy
from lagent_llms.http.sse import EventSplitter
from lagent_llms.protocols.openai import CompletionDecoder, read_error

SSE = ResponseHead(200, {"content-type": "text/event-stream; charset=utf-8"})
JSON = ResponseHead(200, {"content-type": "application/json"})


def cuts(data, places):
    """`data` cut at `places`."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def split(parts):
    splitter = EventSplitter()
    return [event for part in parts for event in splitter.feed(part)]


# server-sent events

STREAM = (
    '\ufeff: hello\n\ndata: {"a": 1}\n\ndata:{"b": "你好"}\n\nevent: x\nid: 7\ndata: one\ndata: two\n\n'
    ":\n\ndata\n\n\n\nretry: 3\n\ndata: [DONE]\n\ndata: lost"
).encode()
EVENTS = [b'{"a": 1}', '{"b": "你好"}'.encode(), b"one\ntwo", b"", b"[DONE]"]


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_events_survive_every_cut(newline):
    data = STREAM.replace(b"\n", newline)
    for place in range(len(data) + 1):
        assert split([data[:place], data[place:]]) == EVENTS
    assert split([data[i : i + 1] for i in range(len(data))]) == EVENTS


@given(
    st.lists(st.text().map(lambda text: json.dumps(text, ensure_ascii=False)), max_size=8),
    st.lists(st.integers(0)),
)
def test_events_are_what_was_sent(items, places):
    data = "".join(f"data: {item}\n\n" for item in items).encode()
    assert split(cuts(data, places)) == [item.encode() for item in items]


# refusals


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
    ],
)
def test_a_refusal_is_read_in_any_form(body, message, code):
    assert read_refusal(json.dumps(body).encode()) == Refusal(message, code)


def test_a_refusal_may_be_plain_text():
    assert read_refusal(b"Internal Server Error\n") == Refusal("Internal Server Error")
    assert read_refusal(b"\xff").message == "\ufffd"


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
def test_the_kind_of_error_goes_by_status_and_code(status, code, kind):
    error = server_error(status, Refusal("maximum context length 401 rate limit", code), where="http://x/v1")
    assert type(error) is kind
    assert error.status_code == status
    assert "http://x/v1" in str(error)


def test_retry_after():
    assert ResponseHead(429, {"retry-after": "1.5"}).retry_after == 1.5
    assert ResponseHead(429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}).retry_after == 0
    assert ResponseHead(429, {"retry-after": "soon"}).retry_after is None
    assert ResponseHead(429, {}).retry_after is None


# retries


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


class Script:
    """Plays a driver: answers each command from a list."""

    def __init__(self, *outcomes, urls=("http://a",), retries=2):
        self.outcomes = list(outcomes)
        self.commands = []
        self.endpoints = Endpoints(urls)
        call = Call(HTTPRequest("GET", "/x"), lambda head: CompletionDecoder(head, "/x"))
        self.exchange = Exchange(call, self.endpoints, RetryPolicy(retries, uniform=lambda low, high: high))

    def run(self):
        outcome, text = None, ""
        while True:
            try:
                command = self.exchange.resume(outcome)
            except StopIteration:
                return text
            if isinstance(command, (Send, Pause)) or command is READ:
                self.commands.append(command)
                outcome = self.outcomes.pop(0) if not isinstance(command, Pause) else None
            else:
                text += "".join(piece.text for piece in command)
                outcome = None


def event(text, finish=None):
    return f'data: {{"choices": [{{"text": "{text}", "finish_reason": {json.dumps(finish)}}}]}}\n\n'.encode()


DONE = b"data: [DONE]\n\n"


def test_an_exchange_is_repeated_until_it_works():
    script = Script(ConnectError("no"), ResponseHead(503, {}), b"busy", b"", SSE, event("a", "stop") + DONE)
    assert script.run() == "a"
    assert [item.seconds for item in script.commands if isinstance(item, Pause)] == [0.5, 1.0]


def test_an_answer_that_has_begun_is_not_asked_for_again():
    script = Script(SSE, event("a"), ServerError("x", status_code=503))
    with pytest.raises(ServerError):
        script.run()
    assert len([item for item in script.commands if isinstance(item, Send)]) == 1


def test_another_server_is_asked_at_once():
    script = Script(ConnectError("no"), SSE, event("a", "stop") + DONE, urls=("http://a", "http://b"))
    assert script.run() == "a"
    first, pause, second, _ = script.commands
    assert pause == Pause(0.0)
    assert {first.url, second.url} == {"http://a", "http://b"}


def test_whole_bodies():
    exchange = Exchange(
        Call(HTTPRequest("GET", "/x"), lambda head: BodyDecoder(json.loads)),
        Endpoints(["http://a"]),
        RetryPolicy(),
    )
    assert exchange.resume(None).request.path == "/x"
    assert exchange.resume(JSON) is READ
    assert exchange.resume(b'{"a"') is READ
    assert exchange.resume(b": 1}") is READ
    assert exchange.resume(b"") == [{"a": 1}]


# servers


def test_the_least_busy_server_is_taken_and_a_dead_one_rests():
    now = [0.0]
    servers = Endpoints(["a", "b"], rest=10, clock=lambda: now[0])
    first, second = servers.take(), servers.take()
    assert {first, second} == {"a", "b"}
    servers.give_back("a")
    assert servers.take() == "a"
    servers.give_back("a", alive=False)
    assert [servers.take() for _ in range(3)] == ["b"] * 3
    now[0] = 11
    assert servers.take() == "a"


def test_when_all_rest_one_is_tried_all_the_same():
    servers = Endpoints(["a"])
    servers.give_back(servers.take(), alive=False)
    assert not servers.alive
    assert servers.take() == "a"


@pytest.mark.parametrize("value", ["", " ", 7, "ftp://x", "http://", "http://x:99999", "http://x?y", None])
def test_what_is_no_url_is_refused(value):
    with pytest.raises(InvalidArgument, match="url="):
        check_url("url", value)


def test_urls_as_people_write_them():
    assert check_url("url", "localhost:23333") == "http://localhost:23333"
    assert check_url("url", "https://x/prefix/") == "https://x/prefix"


# completions


def read(decoder, *parts):
    pieces = [piece for part in parts for piece in decoder.feed(part)]
    return pieces if decoder.complete else [*pieces, *decoder.finish()]


def test_a_streamed_completion():
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}\n\n'
    first, second, last = read(
        CompletionDecoder(SSE), event("Hel") + event("lo", "length"), usage + DONE + b"data: x"
    )
    assert (first.text, second.text) == ("Hel", "lo")
    assert (last.finish_reason, last.usage.prompt_tokens, last.n_tokens) == ("length", 4, 2)


def test_a_streamed_chat_with_tool_calls_in_parts():
    def delta(**fields):
        return f"data: {json.dumps({'choices': [{'delta': fields}]})}\n\n".encode()

    parts = [
        delta(role="assistant", content=None, reasoning_content="hm"),
        delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": " 1}"}}]),
        delta(tool_calls=[{"index": 1, "id": "c2", "function": {"name": "sub", "arguments": "nonsense"}}]),
        b'data: {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}\n\n',
        DONE,
    ]
    first, last = read(CompletionDecoder(SSE), *parts)
    assert first.reasoning == "hm"
    assert [(call.name, call.arguments, call.id) for call in last.tool_calls] == [
        ("add", {"a": 1}, "c1"),
        ("sub", {"arguments": "nonsense"}, "c2"),
    ]


def test_a_whole_chat_with_logprobs():
    body = {
        "choices": [
            {
                "message": {"content": "Hi"},
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "Hi", "logprob": -0.5, "top_logprobs": []}]},
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1}},
    }
    first, last = read(CompletionDecoder(JSON), json.dumps(body).encode())
    assert (first.text, first.logprobs[0].logprob, last.usage.cached_tokens) == ("Hi", -0.5, 1)


@pytest.mark.parametrize(
    ("head", "data", "kind"),
    [
        (SSE, event("a"), StreamInterrupted),
        (SSE, b"", StreamInterrupted),
        (SSE, event("a") + DONE, StreamInterrupted),
        (SSE, b'data: {"error": {"message": "no", "code": 500}}\n\n', ServerError),
        (SSE, b"data: <html>\n\n", ServerError),
        (SSE, event("a", "abort") + DONE, ServerError),
        (JSON, b'{"object": "error", "message": "no such model", "code": 404}', NotFound),
        (JSON, b"", ServerError),
        (ResponseHead(200, {"content-type": "text/html"}), b"<html>", ServerError),
    ],
)
def test_what_is_no_answer_is_an_error(head, data, kind):
    with pytest.raises(kind) as caught:
        read(CompletionDecoder(head, "/v1/x"), data)
    assert type(caught.value) is kind


def test_a_finish_reason_and_a_clean_end_are_a_whole_answer():
    assert read(CompletionDecoder(SSE), event("a", "stop"))[-1].finish_reason == "stop"


def test_the_status_of_an_error_sent_as_success():
    error = read_error(JSON, b'{"message": "no", "code": 401}', "/x")
    assert isinstance(error, AuthenticationError)
    assert error.status_code == 401


def test_timeouts_are_checked():
    with pytest.raises(InvalidArgument):
        Timeout(connect=0)


def test_an_error_that_is_no_event_in_a_stream():
    decoder = CompletionDecoder(SSE, "here")
    assert list(decoder.feed(b'{"error_code": 10402, "text": "no answer"}\n')) == []
    with pytest.raises(ServerError, match="here: no answer") as caught:
        list(decoder.finish())
    assert caught.value.code == "10402"


def test_a_finalizer_gives_a_server_back_without_waiting():
    endpoints = Endpoints(["http://a", "http://b"])
    url = endpoints.take()
    with endpoints._lock:
        endpoints.give_back(url, alive=False)
    assert [endpoints.take() for _ in range(3)] == [next(one for one in endpoints.urls if one != url)] * 3
