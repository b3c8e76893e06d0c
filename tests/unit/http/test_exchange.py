"""`Exchange` with scripted outcomes: several servers, whole bodies."""

import contextlib
import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import ConnectError, LLMError, ServerError, TimeoutExceeded
from lagent_llms.backends.lmdeploy.protocol import answer_call, models_call, tokenize_call
from lagent_llms.backends.lorax import protocol as lorax
from lagent_llms.backends.triton.conversation import ListModels
from lagent_llms.backends.triton.http_messages import unary_call
from lagent_llms.http.endpoints import Endpoints
from lagent_llms.http.exchange import READ, BodyDecoder, Call, Exchange, Send
from lagent_llms.http.messages import HTTPRequest, ResponseHead
from lagent_llms.protocols.openai import CompletionDecoder
from lagent_llms.testing import ScriptedLLM

REQUEST = ScriptedLLM().prepare("x", {}).request
SSE = ResponseHead(200, {"content-type": "text/event-stream; charset=utf-8"})


JSON = ResponseHead(200, {"content-type": "application/json"})


class Script:
    """Executor of an exchange that takes each outcome from a list."""

    def __init__(self, *outcomes, urls=("http://a",)):
        self.outcomes = list(outcomes)
        self.commands = []
        self.endpoints = Endpoints(urls)
        call = Call(HTTPRequest("GET", "/x"), CompletionDecoder)
        self.exchange = Exchange(call, self.endpoints)

    def run(self):
        outcome, text = None, ""
        while True:
            try:
                reads = outcome is None and self.exchange.reads_next
                command = READ if reads else self.exchange.resume(outcome)
            except StopIteration:
                return text
            if isinstance(command, Send) or command is READ:
                self.commands.append(command)
                outcome = self.outcomes.pop(0)
            else:
                text += "".join(piece.text for piece in command)
                outcome = None


def event(text, finish=None):
    return f'data: {{"choices": [{{"text": "{text}", "finish_reason": {json.dumps(finish)}}}]}}\n\n'.encode()


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("outcomes", [(ConnectError("no"),), (SSE, ServerError("x", status_code=503))])
def test_a_failure_at_the_only_server_ends_the_exchange(outcomes):
    script = Script(*outcomes)
    with pytest.raises(type(outcomes[-1])):
        script.run()
    assert len([item for item in script.commands if isinstance(item, Send)]) == 1


def test_a_delta_without_text_renews_the_wait_and_a_comment_does_not():
    role = b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
    exchange = Exchange(Call(HTTPRequest("GET", "/x"), CompletionDecoder), Endpoints(["http://a"]))
    assert isinstance(exchange.resume(None), Send)
    assert exchange.resume(SSE) is READ
    assert (exchange.resume(role), exchange.reads_next) == ((), True)
    assert exchange.resume(b": ping\n\n") is READ
    assert [piece.text for piece in exchange.resume(role + event("a") + role)] == ["a"]
    assert exchange.reads_next
    assert exchange.resume(b": ping\n\n") is READ


@pytest.mark.parametrize("error", [ConnectError("no"), TimeoutExceeded("x", phase="connect")])
def test_the_next_server_gets_the_request_at_once(error):
    script = Script(error, SSE, event("a", "stop") + DONE, urls=("http://a", "http://b"))
    assert script.run() == "a"
    first, second, _ = script.commands
    assert {first.url, second.url} == {"http://a", "http://b"}


def test_each_server_is_tried_once():
    script = Script(*[ConnectError("no")] * 4, urls=("http://a", "http://b", "http://c"))
    with pytest.raises(ConnectError):
        script.run()
    assert {item.url for item in script.commands} == {"http://a", "http://b", "http://c"}
    assert len(script.commands) == 3


CALLS = {
    "lmdeploy": answer_call(REQUEST, "m"),
    "lmdeploy with logprobs": answer_call(ScriptedLLM().prepare("x", {"logprobs": 2}).request, "m"),
    "lmdeploy tokens": tokenize_call("x"),
    "models": models_call(),
    "lorax": lorax.answer_call(REQUEST, lorax.Adapter(), "m", stop=(), bos=""),
    "lorax tokens": lorax.token_ids_call("x", bos=""),
    "triton": unary_call(ListModels()),
}
WORDS = [
    "choices",
    "text",
    "message",
    "content",
    "delta",
    "tool_calls",
    "function",
    "arguments",
    "index",
    "usage",
]
WORDS += [
    "finish_reason",
    "logprobs",
    "tokens",
    "token_logprobs",
    "top_logprobs",
    "error",
    "code",
    "details",
    "token",
]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@given(body=BODIES, events=st.booleans(), status=st.sampled_from([200, 204, 302, 422, 500]))
def test_any_body_is_read_or_an_llm_error(call, body, events, status):
    exchange = Exchange(call, Endpoints(["http://a"]))
    head = ResponseHead(status, {"content-type": "text/event-stream" if events else "application/json"})
    outcomes = [None, head, b"data: " + body + b"\n\n" if events else body, b""]
    with contextlib.suppress(LLMError, StopIteration):
        for outcome in outcomes:
            command = exchange.resume(outcome)
            while command is not READ and not isinstance(command, Send) and not exchange.reads_next:
                command = exchange.resume(None)


@pytest.mark.parametrize("error", [TypeError("x"), RecursionError(), MemoryError(), ZeroDivisionError()])
def test_an_error_of_a_decoder_is_a_server_error(error):
    def parse(body):
        raise error

    call = Call(HTTPRequest("GET", "/x"), partial(BodyDecoder, parse), parse)
    for status in (200, 500):
        exchange = Exchange(call, Endpoints(["http://a"]))
        exchange.resume(None)
        assert exchange.resume(ResponseHead(status, {})) is READ
        with pytest.raises(ServerError, match="cannot be read"):
            exchange.resume(b"")


def test_body_decoder():
    exchange = Exchange(
        Call(HTTPRequest("GET", "/x"), partial(BodyDecoder, json.loads)),
        Endpoints(["http://a"]),
    )
    assert exchange.resume(None).request.path == "/x"
    assert exchange.resume(JSON) is READ
    assert exchange.resume(b'{"a"') is READ
    assert exchange.resume(b": 1}") is READ
    assert exchange.resume(b"") == [{"a": 1}]
