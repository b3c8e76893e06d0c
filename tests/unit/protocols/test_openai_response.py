"""Answers as servers really give them: every form that was reported, in the decoder of each backend."""

import json

import pytest

from lagent_llms import JAXClient, LMDeployClient, LoRAX, NotFound, ServerError, StreamInterrupted
from lagent_llms.core.answer import Answer
from lagent_llms.http.messages import ResponseHead
from lagent_llms.schema import Usage

SSE = {"content-type": "text/event-stream; charset=utf-8"}
URL, ROUTE = "http://user:pw@h:1", "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hi"}]
BACKENDS = {"LMDeployClient": LMDeployClient(URL, "m"), "JAXClient": JAXClient(URL, "m"), "LoRAX": LoRAX(URL)}


def event(item, prefix="data: ", end="\n\n"):
    return f"{prefix}{item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}{end}".encode()


def delta(content=None, finish=None, **fields):
    message = ({} if content is None else {"content": content}) | fields.pop("delta", {})
    return event({"choices": [{"index": 0, "delta": message, "finish_reason": finish, **fields}]})


def tool(*calls, finish=None):
    return delta(finish=finish, delta={"tool_calls": list(calls)})


def call(name=None, arguments="", **fields):
    return {**fields, "function": {"name": name, "arguments": arguments}}


HELLO, STOP, DONE = delta("Hello"), delta(None, "stop"), event("[DONE]")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})


def raw(content):
    return b'data: {"choices":[{"delta":{"content":"' + content + b'"}}]}\n\n'


#: Name -> body, text.
TEXTS = {
    "plain": ([delta("", delta={"role": "assistant"}), HELLO, STOP, USAGE, DONE], "Hello"),
    "no space after data:": ([HELLO.replace(b"data: ", b"data:"), STOP, DONE], "Hello"),
    "CRLF": ([HELLO.replace(b"\n", b"\r\n"), STOP.replace(b"\n", b"\r\n"), DONE], "Hello"),
    "bare CR": ([HELLO.replace(b"\n", b"\r"), STOP.replace(b"\n", b"\r")], "Hello"),
    "empty data": ([b"data: \n\n", HELLO, b"data:\n\n", STOP, DONE], "Hello"),
    "comments": ([b": ping\n\n", HELLO, b":\n\n", STOP, DONE], "Hello"),
    "ping with {}": ([b"event: ping\ndata: {}\n\n", HELLO, b"data: {}\n\n", STOP, DONE], "Hello"),
    "ping with text": ([b"event: ping\ndata: still here\n\n", HELLO, STOP, DONE], "Hello"),
    "ping with a type": ([b'data: {"type": "ping"}\n\n', HELLO, STOP, DONE], "Hello"),
    "[DONE] with blanks": ([HELLO, STOP, b"data:  [DONE] \n\n"], "Hello"),
    "no [DONE]": ([HELLO, STOP], "Hello"),
    "no last empty line": ([HELLO, STOP.rstrip()], "Hello"),
    "no empty lines": ([HELLO[:-1], delta(" you")[:-1], STOP[:-1], DONE[:-1]], "Hello you"),
    "several lines": ([b'data: {"choices": [{"delta":\ndata: {"content": "Hello"}}]}\n\n', STOP], "Hello"),
    "choices null": ([event({"choices": None, "object": "x"}), HELLO, STOP, DONE], "Hello"),
    "metadata": ([event({"id": "x", "object": "chat.completion.chunk"}), HELLO, STOP, DONE], "Hello"),
    "delta null": ([event({"choices": [{"index": 0, "delta": None}]}), HELLO, STOP, DONE], "Hello"),
    "content null": ([delta(delta={"role": "assistant", "content": None}), HELLO, STOP, DONE], "Hello"),
    "content of parts": ([delta([{"type": "text", "text": "Hel"}, {"text": "lo"}]), STOP], "Hello"),
    "refusal": ([delta(delta={"content": None, "refusal": "I can't."}), STOP], "I can't."),
    "finish reason ''": ([delta("Hello", ""), STOP], "Hello"),
    "finish reason 'null'": ([delta("Hello", "null"), delta("!", "stop")], "Hello!"),
    "two answers": ([event({"choices": [{"index": 1, "delta": {"content": "B"}}]}), HELLO, STOP], "Hello"),
    "index as text": ([delta("Hello", "stop", index="0")], "Hello"),
    "error null": ([event({"error": None, "choices": [{"delta": {"content": "Hello"}}]}), STOP], "Hello"),
    "error empty": ([event({"error": {"code": 0}, "choices": [{"delta": {"content": "Hi"}}]}), STOP], "Hi"),
    "stop_reason a number": ([delta("Hello", "stop", stop_reason=151645)], "Hello"),
    "stop_reason a list": ([delta("Hello", "stop", stop_reason=[1])], "Hello"),
    "logprobs null": ([delta("Hello", "stop", logprobs=None)], "Hello"),
    "logprobs of no use": ([delta("Hello", "stop", logprobs=5)], "Hello"),
    "NaN": ([b'data: {"choices":[{"delta":{"content":"Hello"},"score":NaN}]}\n\n', STOP], "Hello"),
    "BOM": ([b"\xef\xbb\xbf", HELLO, STOP], "Hello"),
    "BOM at each event": ([b"\xef\xbb\xbf" + HELLO, b"\xef\xbb\xbf" + STOP], "Hello"),
    "BOM in each event": ([HELLO.replace(b"{", b"\xef\xbb\xbf{", 1), STOP], "Hello"),
    "text that begins with a BOM": ([delta("\ufeffHello"), STOP], "\ufeffHello"),
    "id, retry, event": ([b"id: 1\nretry: 9\n" + HELLO, b"event: message\n" + STOP], "Hello"),
    "emoji": ([delta("😀"), STOP], "😀"),
    "emoji, escaped": ([raw(b"\\ud83d\\ude00"), STOP], "😀"),
    "emoji in two events": ([raw(b"\\ud83d"), raw(b"\\ude00!"), HELLO, STOP], "😀!Hello"),
    "half an emoji": ([raw(b"\\ud83d"), HELLO, STOP], "\ufffdHello"),
    "half an emoji at the end": ([HELLO, raw(b"\\ud83d"), STOP], "Hello\ufffd"),
    "Chinese in two events": ([raw(b"\xe4\xbd"), raw(b"\xa0"), STOP], "你"),
    "control characters": ([raw(b"a\\u0000b\\u2028c"), STOP], "a\0b\u2028c"),
    "raw separators": ([raw("a\u2028b\u0085c".encode()), STOP], "a\u2028b\u0085c"),
}  # fmt: skip

WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]
}


def decode(body, *, backend="LMDeployClient", headers=SSE, size=None, **given):
    """Return the completion in `body`, which arrives in parts of `size` bytes, by default at once."""
    llm = BACKENDS[backend]
    make = llm.answer_call(llm.prepare(MESSAGES, given).request, "m").decoder
    decoder, answer = make(ResponseHead(200, headers, URL, ROUTE)), Answer()
    size = size or len(body) or 1
    for start in range(0, len(body), size):
        for piece in decoder.feed(body[start : start + size]):
            answer.feed(piece)
        if decoder.complete:
            return answer.finish()[0]
    for piece in decoder.finish():
        answer.feed(piece)
    return answer.finish()[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TEXTS)
def test_text(name, backend):
    events, text = TEXTS[name]
    for size in (None, 1):
        completion = decode(b"".join(events), backend=backend, size=size)
        assert (completion.text, completion.finish_reason) == (text, "stop")


@pytest.mark.parametrize(
    "label", [None, "", "application/json", "text/plain", "Text/Event-Stream;charset=UTF-8"]
)
@pytest.mark.parametrize(
    "start", [b"", b"\n\n", b"\xef\xbb\xbf", b": hello\n\n", b"event: x\n", b"id: 1\n", b"retry: 1\n\n"]
)
def test_a_stream_is_known_by_its_first_bytes(label, start):
    headers = {} if label is None else {"content-type": label}
    for size in (None, 1):
        assert decode(start + HELLO + STOP + DONE, headers=headers, size=size).text == "Hello"


@pytest.mark.parametrize("label", [None, "", "application/json", "text/plain", "text/event-stream"])
@pytest.mark.parametrize("start", [b"", b"\n\n", b"\xef\xbb\xbf", b" " * 300])
def test_a_document_is_known_by_its_first_bytes(label, start):
    headers = {} if label is None else {"content-type": label}
    for size in (None, 1):
        completion = decode(start + json.dumps(WHOLE, indent=1).encode(), headers=headers, size=size)
        assert (completion.text, completion.finish_reason) == ("Hello", "stop")


def test_a_document_needs_no_finish_reason():
    message = {"content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}}
    for found, reason in ({"text": "Hello"}, "stop"), ({"message": message}, "tool_calls"):
        completion = decode(json.dumps({"choices": [found]}).encode(), headers={})
        assert completion.finish_reason == reason


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3.0, "completion_tokens": 2.0}, Usage(3, 2, 0)),
        ({"prompt_tokens": "3", "completion_tokens": 2}, Usage(3, 2, 0)),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(3, 0, 0)),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": 5}, None),
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(3, 2, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1.0}}, Usage(3, 0, 1)),
        ({"prompt_tokens": float("inf"), "completion_tokens": []}, None),
        (5, None),
    ],
    ids=str,
)  # fmt: skip
def test_usage(usage, expected):
    completion = decode(HELLO + STOP + event({"choices": [], "usage": usage}) + DONE)
    assert (completion.text, completion.usage) == ("Hello", expected)


def test_log_probabilities_of_null_are_minus_infinity():
    content = [
        {"token": "a", "logprob": None, "top_logprobs": [{"token": "b", "logprob": None}]},
        {"token": "b", "logprob": "-0.5", "top_logprobs": None},
    ]
    older = {"tokens": ["a"], "token_logprobs": [None], "top_logprobs": [{"b": None}]}
    for logprobs in ({"content": content}, older):
        completion = decode(delta("ab", "stop", logprobs=logprobs), backend="JAXClient")
        assert completion.logprobs[0].logprob == completion.logprobs[0].top[0][2] == float("-inf")
    decode(delta("ab", "stop", logprobs={"content": content}), logprobs=2)


def test_the_log_probability_of_the_end_token_is_left_out():
    rows = [{"token": token, "logprob": -0.5, "top_logprobs": []} for token in ("Hel", "lo", "<|im_end|>")]
    streamed = [delta(row["token"], logprobs={"content": [row]}) for row in rows[:2]]
    streamed.append(delta("", "stop", logprobs={"content": rows[2:]}))  # vLLM 0.32
    for body in (b"".join(streamed), delta("Hello", "stop", logprobs={"content": rows})):
        assert [row.token for row in decode(body + DONE).logprobs] == ["Hel", "lo"]
    cut = delta("", "length", logprobs={"content": rows[:1]})
    assert [row.token for row in decode(cut + DONE).logprobs] == ["Hel"]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"),
        *((word, "stop") for word in ("eos", "eos_token", "stop_sequence", "end_turn", "STOP", "bored")),
        *((word, "length") for word in ("max_tokens", "MAX_TOKENS", "model_length")),
        *((word, "tool_calls") for word in ("tool_use", "function_call")),
    ],
)  # fmt: skip
def test_finish_reasons(word, reason):
    completion = decode(delta("Hello", word) + DONE)
    assert (completion.text, completion.finish_reason) == ("Hello", reason)
    assert completion.native_finish_reason == ("" if word == reason else word)
    assert decode(delta("Hello", {"type": word}) + DONE).finish_reason == reason


@pytest.mark.parametrize("word", ["error", "abort", "server_error", "cancelled", "content_filter"])
def test_an_answer_that_ended_with_a_failure_is_an_error(word):
    with pytest.raises(ServerError, match=f"{ROUTE}.*'{word}'") as caught:
        decode(delta("Hello", word) + DONE)
    assert (caught.value.code, caught.value.status_code) == (word, 200)


def test_refusals_and_reasoning_in_other_forms():
    assert decode(delta(delta={"refusal": "No."}) + STOP).native_finish_reason == "refusal"
    thoughts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hi"},
    ]
    for message in (
        {"content": thoughts},
        {"content": "Hi", "reasoning_content": [{"text": "hm"}]},
        {"content": "Hi", "reasoning_content": {"text": "hm"}},
        {"content": "Hi", "reasoning": "hm"},
        {"content": [{"type": "reasoning", "text": "hm"}, "Hi"]},
    ):
        completion = decode(delta(delta=message) + STOP)
        assert (completion.text, completion.reasoning) == ("Hi", "hm")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"choices": 5}, "choices must be a list, got 5"),
        ({"choices": {"a": 1}}, "choices must be a list"),
        ({"choices": [5]}, r"choices\[0\] must be an object"),
        ({"choices": [{"delta": "Hello"}]}, r"choices\[0\].delta must be an object"),
        ({"choices": [{"delta": {"content": 5}}]}, r"choices\[0\].delta.content must be a string or a list"),
        ({"choices": [{"text": 5}]}, r"choices\[0\].text"),
        ({"choices": [{"delta": {"tool_calls": 5}}]}, r"choices\[0\].delta.tool_calls"),
        ({"choices": [{"delta": {"function_call": {"name": 5}}}]}, r"choices\[0\].delta.function_call.name"),
        ([1], "the body must be an object"),
    ],
    ids=str,
)  # fmt: skip
def test_a_needed_field_that_is_wrong_is_named(item, field):
    for body, headers in (event(item), SSE), (json.dumps(item).encode(), {}):
        with pytest.raises(ServerError, match=f"answer is wrong, not the request: {field}") as caught:
            decode(HELLO * (headers is SSE) + body, headers=headers)
        assert str(caught.value).startswith(f"http://***@h:1{ROUTE}: ")


def test_log_probabilities_that_were_asked_for_are_needed():
    with pytest.raises(ServerError, match=r"choices\[0\].logprobs"):
        decode(delta("Hello", "stop", logprobs={"content": 5}), logprobs=1)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"choices": []}', b'{"choices": null}', b"[]", b"null", b"Hello", b"5"]
)
def test_a_document_without_an_answer_is_an_error(body):
    with pytest.raises(ServerError, match=ROUTE):
        decode(body, headers={})


ERRORS = [
    (event({"error": {"message": "CUDA OOM", "code": 500}}), "CUDA OOM", 500),
    (event({"error": {"message": "busy", "type": "None", "code": "503"}}), "busy", 503),  # litellm
    (event({"object": "error", "message": "boom", "code": 400}), "boom", 400),  # vLLM
    (event({"error": {"object": "error", "message": "boom", "code": 400}}), "boom", 400),  # sglang
    (event({"error": "boom", "error_type": "generation"}), "boom", 200),  # TGI
    (event({"error": "boom"}), "boom", 200),
    (event({"error": ["boom"]}), "boom", 200),
    (event({"errors": [{"message": "boom", "code": 429}]}), "boom", 200),
    (event({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}), "boom", 200),
    (event({"error_code": 336003, "error_msg": "boom"}), "boom", 200),
    (event({"base_resp": {"status_code": 1004, "status_msg": "boom"}}), "boom", 200),
    (event({"detail": "boom"}), "boom", 200),
    (
        event({"error": {"code": 502, "message": "x", "metadata": {"raw": "boom"}}, "choices": []}),
        "boom",
        502,
    ),
    (
        event({"error": {"code": 502, "message": "boom"}, "choices": [{"delta": {"content": ""}}]}),
        "boom",
        502,
    ),
    (delta("", "error", error={"code": 502, "message": "boom"}), "boom", 502),
    (delta("", error={"code": 502, "message": "boom"}), "boom", 502),
    (b"event: error\ndata: upstream died\n\n", "upstream died", 200),
    (b'error: {"message": "boom"}\n\n', "boom", 200),
    (b'{"error": {"message": "boom"}}', "boom", 200),
    (b'{"error": {"message": "boom"}}\n\n', "boom", 200),
    (b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n\r\n</html>\r\n", "502 Bad Gateway", 200),
    (b"upstream connect error: reset before headers", "upstream connect error", 200),
]


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize(("body", "message", "status"), ERRORS, ids=[str(body) for body, *_ in ERRORS])
def test_an_error_in_a_stream_is_read_in_every_shape(body, message, status, size):
    for start in (b"", HELLO):
        for end in (b"", b"\n\n" + DONE):
            with pytest.raises(ServerError, match=message) as caught:
                decode(start + body + end, size=size)
            assert caught.value.status_code == status
            assert f"http://***@h:1{ROUTE}" in str(caught.value)


def test_an_error_in_a_document_that_is_labelled_as_a_stream():
    with pytest.raises(NotFound, match="no such model"):
        decode(b'{"error": {"message": "no such model", "code": 404}}')


@pytest.mark.parametrize("end", [b"", DONE, b'data: {"choices": [{"del', b"data: [DO", b": still here\n\n"])
def test_an_answer_that_is_cut_off_is_interrupted(end):
    with pytest.raises(StreamInterrupted, match=ROUTE):
        decode(HELLO + end)
