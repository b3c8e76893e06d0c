"""Completions and chats as OpenAI's protocol sends them, whole and streamed."""

import json

import pytest

from lagent_llms import AuthenticationError, NotFound, ServerError, StreamInterrupted
from lagent_llms.http.messages import ResponseHead
from lagent_llms.protocols.openai import CompletionDecoder, read_error
from lagent_llms.schema import ToolCallDelta

SSE = ResponseHead(200, {"content-type": "text/event-stream; charset=utf-8"})


JSON = ResponseHead(200, {"content-type": "application/json"})


def event(text, finish=None):
    return f'data: {{"choices": [{{"text": "{text}", "finish_reason": {json.dumps(finish)}}}]}}\n\n'.encode()


DONE = b"data: [DONE]\n\n"


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
    first, *parts, last = read(CompletionDecoder(SSE), *parts)
    assert first.reasoning == "hm"
    assert [part.tool_calls for part in parts] == [
        (ToolCallDelta(0, "c1", "add", '{"a":'),),
        (ToolCallDelta(0, arguments=" 1}"),),
        (ToolCallDelta(1, "c2", "sub", "nonsense"),),
    ]
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
def test_a_response_that_is_no_completion_is_an_error(head, data, kind):
    with pytest.raises(kind) as caught:
        read(CompletionDecoder(head), data)
    assert type(caught.value) is kind


def test_a_finish_reason_and_the_end_of_the_body_complete_an_answer():
    assert read(CompletionDecoder(SSE), event("a", "stop"))[-1].finish_reason == "stop"


def test_an_error_with_status_200_has_the_status_of_its_body():
    error = read_error(JSON, b'{"message": "no", "code": 401}', "/x")
    assert isinstance(error, AuthenticationError)
    assert error.status_code == 401


def test_plain_json_in_a_stream_is_an_error():
    decoder = CompletionDecoder(SSE)
    assert list(decoder.feed(b'{"error_code": 10402, "text": "no answer"}\n')) == []
    with pytest.raises(ServerError, match="no answer") as caught:
        list(decoder.finish())
    assert caught.value.code == "10402"
