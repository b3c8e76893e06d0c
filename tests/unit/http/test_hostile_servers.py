"""Whatever a server or a model sends fails as an `LLMError`, on every HTTP backend."""

import gzip
import json
import tracemalloc
import zlib

import aiohttp
import pytest
import requests

import lagent_llms
from lagent_llms import (
    AsyncLMDeployClient,
    AsyncTritonClient,
    InvalidArgument,
    LLMError,
    LMDeployClient,
    ServerError,
    StreamInterrupted,
    TritonClient,
)
from lagent_llms.lorax import AsyncClient, Client
from lagent_llms.testing.conformance import Caller
from tests.scripted_server import ScriptedServer

DEEP = b"[" * 5000 + b"]" * 5000
CLIENTS = {
    name: getattr(lagent_llms, name)
    for name in (
        "LMDeployClient",
        "JAXClient",
        "LoRAX",
        "AsyncLMDeployClient",
        "AsyncJAXClient",
        "AsyncLoRAX",
    )
}


def reply(body, *, status=200, kind="application/json", headers=b""):
    """Return the script of a server that sends one response and closes the connection."""
    head = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\n%sContent-Length: %d\r\nConnection: close\r\n\r\n"
    return lambda connection: connection.send(head % (status, kind.encode(), headers, len(body)) + body)


def event(body):
    return reply(b"data: " + body + b"\n\n", kind="text/event-stream")


def refused(body, status=422, headers=b""):
    return reply(body, status=status, headers=headers)


HOSTILE = {
    "deep JSON": reply(b'{"choices":[{"x":' + DEEP + b"}]}"),
    "deep event": event(b'{"choices":[{"x":' + DEEP + b"}]}"),
    "deep list": reply(DEEP),
    "deep error": refused(b'{"error":' * 3000 + b'"x"' + b"}" * 3000),
    "error of 900 levels": refused(b'{"error":' * 900 + b'"x"' + b"}" * 900),
    "message of 900 levels": refused(b'{"message":' + b"[" * 900 + b"]" * 900 + b"}"),
    "deep error event": event(b'{"error":' * 3000 + b'"x"' + b"}" * 3000),
    "field of an integer": refused(b'{"detail":[{"loc":5}]}'),
    "no field": refused(b'{"detail":[{"loc":null,"msg":null}, 5, null]}'),
    "code of 30 digits": refused(b'{"error":{"message":"x","code":' + b"4" * 30 + b"}}"),
    "code of 5,000 digits": refused(b'{"error":{"message":"x","code":"' + b"4" * 5000 + b'"}}'),
    "number of 4,400 digits": refused(b'{"error":{"message":"x","code":' + b"4" * 4400 + b"}}"),
    "code in other digits": reply('{"error":{"message":"x","code":"४००"}}'.encode()),
    "superscript code": reply('{"error":{"message":"x","code":"²00"}}'.encode()),
    "numbers": refused(b'{"error":{"message":1,"code":[1],"type":{}}}'),
    "lists": refused(b'{"error":[[[]]],"error_type":[{}]}'),
    "null": refused(b"null"),
    "nothing": reply(b""),
    "huge integer": reply(b'{"choices":[{"text":"x","gen_tokens":[' + b"9" * 5000 + b"]}]}"),
    "wrong types": reply(b'{"choices":{"text":5},"usage":[]}'),
    "models of wrong types": reply(b'{"data":[{"id":5}],"model_id":{}}'),
    "unknown encoding": reply(b"{}", headers=b"Content-Encoding: br\r\n"),
    "not compressed": reply(b"{}", headers=b"Content-Encoding: gzip\r\n"),
    "redirect to a file": refused(b"", 302, b"Location: file:///etc/passwd\r\n"),
    "date of 20 digits": refused(b"{}", 429, b"Retry-After: Wed, %s Oct 2015 07:28:00 GMT\r\n" % (b"9" * 20)),
    "hour of 20 digits": refused(b"{}", 429, b"Retry-After: Wed, 1 Oct 2015 %s:28:00 GMT\r\n" % (b"9" * 20)),
}


@pytest.mark.parametrize("connect_to", [*CLIENTS.values(), Client, AsyncClient], ids=lambda cls: cls.__name__)
def test_every_answer_is_an_llm_error(connect_to):
    with ScriptedServer(None) as server:
        if connect_to in (Client, AsyncClient):
            client = Caller(connect_to(server.url, max_session_retries=0))
            calls = {"generate": "x", "tokenize": "x", "info": None}
        else:
            client = Caller(connect_to(server.url, model_name="m", max_retries=0))
            calls = {"generate": "x", "chat": "x", "tokenize": "x", "models": None}
        wrong = {}
        for case, server.script in HOSTILE.items():
            for name, argument in calls.items():
                try:
                    wrong[case, name] = getattr(client, name)(*(() if argument is None else (argument,)))
                except LLMError as error:
                    if len(str(error)) > 5000:
                        wrong[case, name] = error
                except Exception as error:
                    wrong[case, name] = error
        client.close()
    assert wrong == {}


INDEX = [{"name": "m", "state": "READY"}]
COUNTED = ("finish_reason", "num_input_tokens", "num_output_tokens", "logprobs")
CONFIG = {
    "name": "m",
    "model_transaction_policy": {"decoupled": True},
    "input": [
        {"name": name, "data_type": "TYPE_STRING", "dims": [1]}
        for name in ("text_input", "sampling_parameters", "stream", *(f"return_{name}" for name in COUNTED))
    ],
    "output": [{"name": name, "data_type": "TYPE_STRING", "dims": [1]} for name in ("text_output", *COUNTED)],
}
TRITON_EVENTS = [
    {"text_output": "a", "num_output_tokens": "x"},
    {"text_output": "a", "num_output_tokens": [None]},
    {"text_output": "a", "logprobs": "[[]]"},
    {"text_output": "a", "logprobs": '[{"x": {"logprob": null}}]'},
    {"text_output": "a", "logprobs": "[" * 3000},
    {"text_output": "a", "logprobs": "5"},
    {"error": [[]]},
    [],
    5,
]


@pytest.mark.parametrize("cls", [TritonClient, AsyncTritonClient])
def test_every_answer_of_triton_is_an_llm_error(cls):
    def script(connection):
        part = "index" if connection.path.endswith("index") else "config"
        part = "answer" if "generate" in connection.path else part
        if part == case[0]:
            case[1](connection)
        else:
            connection.json(INDEX if part == "index" else CONFIG)

    wrong = {}
    with ScriptedServer(script) as server:
        cases = [(part, name, one) for part in ("index", "config", "answer") for name, one in HOSTILE.items()]
        cases += [("answer", item, event(json.dumps(item).encode())) for item in TRITON_EVENTS]
        cases += [("answer", "deep", event(b'{"text_output":' + DEEP + b"}"))]
        for part, name, one in cases:
            case = part, one
            client = Caller(cls(server.url, "m", max_retries=0, dialect="vllm"))
            try:
                client.generate("x", logprobs=1)  # what is not needed may be wrong
            except LLMError:
                pass
            except Exception as error:
                wrong[part, str(name)] = error
            client.close()
    assert wrong == {}


def deep_call(text):
    call = {"function": {"name": "f", "arguments": text}}
    message = {"content": "x", "tool_calls": [call]}
    return reply(json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode())


@pytest.mark.parametrize("text", ["[" * 3000, '{"a":' * 200 + "1" + "}" * 200, '{"a": 1' + "0" * 5000 + "}"])
def test_arguments_that_cannot_be_read_stay_text(connect, text):
    client, _ = connect(deep_call(text))
    (call,) = client.complete([{"role": "user", "content": "x"}]).tool_calls
    assert call.arguments == {"arguments": text}


# sizes


SSE = "text/event-stream"
TOOL_CALL = {"index": 0, "function": {"arguments": "a" * 1000}}
ENDLESS = {
    "body": ("application/json", b" " * 65536),
    "event": (SSE, b"data: " + b"a" * 65000),
    "text": (SSE, b'data: {"choices":[{"delta":{"content":"' + b"a" * 1000 + b'"}}]}\n\n'),
    "tool call": (
        SSE,
        b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": [TOOL_CALL]}}]}).encode() + b"\n\n",
    ),
    "keep-alive": (SSE, b": " + b"p" * 1000 + b"\n\n"),
}
LIMIT = 1 << 20


def endless(kind, unit, encoding=None):
    """Return the script of a server that repeats `unit` until the client leaves."""

    def script(connection):
        connection.head(200, kind, Content_Encoding=encoding)
        pack = zlib.compressobj(wbits=31)
        while True:
            if encoding is None:
                connection.chunk(unit)
            elif data := pack.compress(unit) + pack.flush(zlib.Z_SYNC_FLUSH):
                connection.chunk(data)

    return script


def call_limited(call):
    """Return the error of `call` and the peak of the memory that Python has allocated meanwhile."""
    tracemalloc.start()
    try:
        with pytest.raises(LLMError) as caught:
            call()
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", [None, "gzip"])
@pytest.mark.parametrize("mode", ENDLESS)
def test_an_endless_response_is_refused_at_its_limit(connect, mode, encoding):
    client, _ = connect(endless(*ENDLESS[mode], encoding), limits={"response_bytes": LIMIT})
    error, peak = call_limited(lambda: client.generate("x"))
    assert type(error) is ServerError
    assert "limits.response_bytes" in str(error)
    assert peak < 12 * LIMIT


@pytest.mark.parametrize("mode", ["body", "text"])
def test_the_limit_holds_over_a_session(mode):
    with ScriptedServer(endless(*ENDLESS[mode])) as server, requests.Session() as session:
        llm = LMDeployClient(
            server.url, "m", max_retries=0, session=session, limits={"response_bytes": LIMIT}
        )
        error, _ = call_limited(lambda: llm.generate("x"))
    assert "limits.response_bytes" in str(error)


@pytest.mark.parametrize("mode", ["body", "text"])
async def test_the_limit_holds_over_an_aiohttp_session(mode):
    with ScriptedServer(endless(*ENDLESS[mode])) as server:
        async with aiohttp.ClientSession() as session:
            llm = AsyncLMDeployClient(
                server.url, "m", max_retries=0, session=session, limits={"response_bytes": LIMIT}
            )
            with pytest.raises(ServerError, match="limits.response_bytes"):
                await llm.generate("x")


def test_a_response_within_the_limit_is_read(connect):
    client, _ = connect(lambda c: c.answer("a" * 1000), limits={"response_bytes": 10_000})
    assert client.generate("x") == "a" * 1000


@pytest.mark.parametrize("value", [0, -1, 1.5, None, "1"])
def test_limits_are_checked(connect, value):
    with pytest.raises(InvalidArgument, match="limits.response_bytes"):
        connect(None, url="http://h", limits={"response_bytes": value})


@pytest.mark.parametrize("limits", [{"body": 1}, 7, "1"])
def test_names_of_limits_are_checked(connect, limits):
    with pytest.raises(InvalidArgument, match="limits=.*some of response_bytes, event_bytes, error_bytes"):
        connect(None, url="http://h", limits=limits)


@pytest.mark.parametrize(
    ("limits", "script", "words"),
    [
        (
            {"event_bytes": 500},
            lambda c: (c.head(), *(c.chunk("data: " + "x" * 400) for _ in range(9))),
            "event_bytes",
        ),
        ({"head_bytes": 500}, reply(b"{}", headers=b"X-Long: " + b"x" * 1000 + b"\r\n"), None),
        ({"headers": 5}, reply(b"{}", headers=b"A: b\r\n" * 9), None),
        ({"interim_responses": 2}, lambda c: c.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 3), None),
    ],
    ids=["event", "head", "headers", "interim"],
)
def test_each_limit_can_be_set(connect, limits, script, words):
    client, _ = connect(script, limits=limits, timeout=60)
    with pytest.raises(StreamInterrupted, match=words):
        client.generate("x")


def test_an_error_body_is_read_up_to_its_limit(connect):
    client, _ = connect(reply(b"no room " * 1000, status=500), limits={"error_bytes": 7})
    with pytest.raises(ServerError, match=r"no room \(HTTP 500\)$"):
        client.generate("x")


@pytest.mark.parametrize("status", [200, 500])
def test_a_decompression_bomb_is_refused(connect, status):
    bomb = gzip.compress(bytes(1 << 25))
    script = reply(bomb, headers=b"Content-Encoding: gzip\r\n", status=status)
    client, _ = connect(script, limits={"response_bytes": LIMIT})
    error, peak = call_limited(lambda: client.generate("x"))
    assert type(error) is ServerError
    assert ("limits.response_bytes" in str(error)) == (status == 200)  # the rest of an error body is ignored
    assert peak < 12 * LIMIT


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 1000])
def test_an_unknown_encoding_is_named(connect, encoding):
    client, _ = connect(reply(b"{}", headers=b"Content-Encoding: %s\r\n" % encoding.encode()))
    with pytest.raises(ServerError, match=f"Content-Encoding '{encoding[:80]}"):
        client.generate("x")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n", b"HTTP/1.1 103 X\r\na: b\r\n\r\n" * 100]
)
def test_many_headers_are_refused(connect, head):
    client, _ = connect(lambda connection: connection.send(head))
    with pytest.raises(StreamInterrupted):
        client.generate("x")
