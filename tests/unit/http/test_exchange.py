"""`Exchange` with scripted outcomes: retries, several servers, whole bodies."""

import json
from functools import partial

import pytest

from lagent_llms import ConnectError, ServerError
from lagent_llms.http.endpoints import Endpoints
from lagent_llms.http.exchange import READ, BodyDecoder, Call, Exchange, Pause, Send
from lagent_llms.http.messages import HTTPRequest, ResponseHead
from lagent_llms.http.retry import RetryPolicy
from lagent_llms.protocols.openai import CompletionDecoder

SSE = ResponseHead(200, {"content-type": "text/event-stream; charset=utf-8"})


JSON = ResponseHead(200, {"content-type": "application/json"})


class Script:
    """Executor of an exchange that takes each outcome from a list."""

    def __init__(self, *outcomes, urls=("http://a",), retries=2):
        self.outcomes = list(outcomes)
        self.commands = []
        self.endpoints = Endpoints(urls)
        call = Call(HTTPRequest("GET", "/x"), CompletionDecoder)
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


def test_exchange_retries_until_success():
    script = Script(ConnectError("no"), ResponseHead(503, {}), b"busy", b"", SSE, event("a", "stop") + DONE)
    assert script.run() == "a"
    assert [item.seconds for item in script.commands if isinstance(item, Pause)] == [0.5, 1.0]


def test_partial_answer_is_not_retried():
    script = Script(SSE, event("a"), ServerError("x", status_code=503))
    with pytest.raises(ServerError):
        script.run()
    assert len([item for item in script.commands if isinstance(item, Send)]) == 1


def test_a_delta_without_text_renews_the_wait_and_a_comment_does_not():
    role = b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\n'
    exchange = Exchange(
        Call(HTTPRequest("GET", "/x"), CompletionDecoder), Endpoints(["http://a"]), RetryPolicy()
    )
    assert isinstance(exchange.resume(None), Send)
    assert exchange.resume(SSE) is READ
    assert [exchange.resume(role), exchange.resume(None)] == [(), READ]
    assert exchange.resume(b": ping\n\n") is READ
    assert [piece.text for piece in exchange.resume(role + event("a") + role)] == ["a"]
    assert exchange.resume(None) is READ
    assert exchange.resume(b": ping\n\n") is READ


def test_another_server_is_tried_without_backoff():
    script = Script(ConnectError("no"), SSE, event("a", "stop") + DONE, urls=("http://a", "http://b"))
    assert script.run() == "a"
    first, pause, second, _ = script.commands
    assert pause == Pause(0.0)
    assert {first.url, second.url} == {"http://a", "http://b"}


def test_body_decoder():
    exchange = Exchange(
        Call(HTTPRequest("GET", "/x"), partial(BodyDecoder, json.loads)),
        Endpoints(["http://a"]),
        RetryPolicy(),
    )
    assert exchange.resume(None).request.path == "/x"
    assert exchange.resume(JSON) is READ
    assert exchange.resume(b'{"a"') is READ
    assert exchange.resume(b": 1}") is READ
    assert exchange.resume(b"") == [{"a": 1}]
