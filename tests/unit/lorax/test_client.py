"""LoRAX's clients and backends against a scripted server: faults of real servers and proxies."""

import asyncio
import gc
import json
import socket
import time

import pytest

from lagent_llms import (
    AsyncLoRAX,
    ConnectError,
    LLMError,
    LoRAX,
    RateLimited,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.lorax import AsyncClient, Client, errors
from lagent_llms.testing.conformance import Caller
from tests.scripted_server import ScriptedServer, free_port, slowly

CHINESE = "你好，世界！😀"


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def connect(request):
    """Factory of a scripted server and a client connected to it, sync or async with the same interface."""
    made = []

    def connect(script, url=None, **kwargs):
        server = ScriptedServer(script)
        client = Caller(request.param(url or server.url, **{"max_session_retries": 0, **kwargs}))
        made.extend((client, server))
        return client, server

    yield connect
    for one in made:
        one.close()


def token(text, **more):
    return {"token": {"id": 1, "text": text, "logprob": -0.5, "special": False}, "generated_text": None,
            "details": None, **more}  # fmt: skip


def last(text, whole):
    return token(
        text,
        generated_text=whole,
        details={"finish_reason": "length", "prompt_tokens": 1, "generated_tokens": 2, "seed": None},
    )


def streams(*events, end=True):
    """Make a script that sends `events`: dicts as events, strings unchanged."""

    def script(connection):
        connection.head()
        for event in events:
            connection.chunk(event) if isinstance(event, (str, bytes)) else connection.event(event)
        if end:
            connection.chunk()
        else:
            time.sleep(0.3)  # data sent just before a close may be lost
            connection.sock.close()

    return script


def tokens_of(client, **kwargs):
    return client.chunks("generate_stream", "x", **kwargs)


def text_of(client, **kwargs):
    return "".join(one.token.text for one in tokens_of(client, **kwargs))


WHOLE = [{"generated_text": "Hello"}]

# what is sent


def test_request_body_and_headers(connect):
    client, server = connect(
        lambda c: c.json(WHOLE), headers={"X-Team": "blue"}, cookies={"a": "1", "b": "2"}
    )
    client.generate("x", "some/adapter", "hub", stop_sequences=["."], seed=3, presence_penalty=1)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/")
    assert request.headers["x-team"] == "blue"
    assert request.headers["cookie"] == "a=1; b=2"
    assert request.body["inputs"] == "x"
    assert request.body["stream"] is False
    sent = request.body["parameters"]
    assert sent["adapter_id"] == "some/adapter"
    assert (sent["max_new_tokens"], sent["stop"], sent["return_full_text"]) == (20, ["."], False)
    assert None not in sent.values()
    assert "temperature" not in sent


def test_merged_adapters_are_sent_without_nulls(connect):
    client, server = connect(lambda c: c.json(WHOLE))
    client.generate("x", merged_adapters={"ids": ["a", "b"], "weights": [1, 2]})
    assert server.requests[0].body["parameters"]["merged_adapters"] == {
        "ids": ["a", "b"], "weights": [1, 2], "density": 0.0,
    }  # fmt: skip


# streams as servers write them


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_text_split_at_any_byte(connect, size):
    def script(connection):
        send, connection.send = connection.send, lambda data: slowly(send, data, size)
        streams(*map(token, CHINESE), last("!", CHINESE + "!"))(connection)

    client, _ = connect(script)
    assert text_of(client) == CHINESE + "!"


def test_every_event_form(connect):
    null = token("b")
    null["token"]["logprob"] = None
    null["token"]["new_field"] = 5
    many_lines = json.dumps(token("c"), indent=1).replace("\n", "\ndata: ")
    client, _ = connect(
        streams(
            ":\n\n",  # a keep-alive
            f"data:{json.dumps(token('a'))}\n\n",  # as older servers write it
            null,
            f"data: {many_lines}\r\n\r\n",
            "event: message\nid: 4\n\n",
            "data: [DONE]\n\n",
            ": still here\n\n",
            last("d", "abcd"),
            "data: [DONE]\n\n",
        )
    )
    found = tokens_of(client)
    assert "".join(one.token.text for one in found) == found[-1].generated_text == "abcd"
    assert found[1].token.logprob is None


def test_a_long_stream(connect):
    def script(connection):
        connection.head()
        event = f"data: {json.dumps(token('ab'))}\n\n".encode()
        for _ in range(200):
            connection.chunk(event * 500)
        connection.event(last("!", "whole"))
        connection.chunk()

    client, _ = connect(script)
    assert len(tokens_of(client)) == 100_001


def test_body_of_unknown_length_ends_with_the_connection(connect):
    def script(connection):
        connection.head(Transfer_Encoding=None, Connection="close")
        connection.send(f"data: {json.dumps(last('a', 'a'))}\n\n")
        connection.sock.close()

    client, _ = connect(script)
    assert text_of(client) == "a"


# errors


@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (400, "Failed to parse the request body as JSON", errors.BadRequestError),
        (413, "Failed to buffer the request body: length limit exceeded", errors.UnknownError),
        (415, "Expected request with `Content-Type: application/json`", errors.UnknownError),
        (422, "Failed to deserialize the JSON body into the target type", errors.UnprocessableEntityError),
        (404, "", errors.NotFoundError),
        (401, "token tok_secret is not known", errors.UnauthorizedError),
        (502, "bad gateway", errors.UnknownError),
    ],
)
def test_plain_text_error_responses(connect, status, words, expected):
    client, _ = connect(
        lambda c: (
            c.head(status, "text/plain", Transfer_Encoding=None, Content_Length=len(words)),
            c.send(words),
        ),
        headers={"Authorization": "Bearer tok_secret"},
    )
    for call in (client.generate, lambda prompt: tokens_of(client)):
        with pytest.raises(expected) as caught:
            call("x")
        assert words.replace("tok_secret", "***") in str(caught.value)
        assert "tok_secret" not in str(caught.value)
        assert caught.value.status_code == status
        assert str(caught.value).strip()


@pytest.mark.parametrize(
    ("error_type", "expected"),
    [
        ("generation", errors.GenerationError),
        ("incomplete_generation", errors.IncompleteGenerationError),
        ("overloaded", errors.OverloadedError),
        ("validation", errors.ValidationError),
        ("unheard_of", errors.UnknownError),
    ],
)
def test_errors_inside_a_stream(connect, error_type, expected):
    failure = {"error": "it went wrong", "error_type": error_type}
    client, _ = connect(streams(failure))
    with pytest.raises(expected, match="it went wrong"):
        tokens_of(client)
    client, _ = connect(streams(token("so "), token("far"), failure))
    with pytest.raises(expected) as caught:
        tokens_of(client)
    assert caught.value.partial == "so far"
    client, _ = connect(lambda c: c.json(failure))  # not even a stream
    for call in (client.generate, lambda prompt: tokens_of(client)):
        with pytest.raises(expected):
            call("x")


@pytest.mark.parametrize("end", [True, False], ids=["ended", "closed"])
def test_a_stream_without_its_final_event(connect, end):
    client, _ = connect(streams(token("so "), token("far"), end=end))
    with pytest.raises(StreamInterrupted) as caught:
        tokens_of(client)
    assert caught.value.partial == "so far"


@pytest.mark.parametrize(
    "event", ["data: {\n\n", "data: 5\n\n", 'data: {"token": 5}\n\n', "data: <html>\n\n"]
)
def test_invalid_events(connect, event):
    client, _ = connect(streams(token("a"), event))
    with pytest.raises(ServerError, match="cannot be read"):
        tokens_of(client)


@pytest.mark.parametrize("body", [[], {}, [5], "Hello", [{"generated_text": None}]], ids=str)
def test_invalid_answers(connect, body):
    client, _ = connect(lambda c: c.json(body))
    with pytest.raises(ServerError, match="cannot be read"):
        client.generate("x")


# other forms of answers


RESULT = {
    "generated_text": "Hi!",
    "details": {
        "finish_reason": "length",
        "prompt_tokens": 1,
        "generated_tokens": 2,
        "tokens": [token("Hi")["token"], token("!")["token"]],
    },
}


@pytest.mark.parametrize("label", [None, "text/plain", "TEXT/Event-Stream"])
def test_a_stream_without_a_label(connect, label):
    def script(connection):
        connection.head(content_type=label)
        connection.event(token("Hi"))
        connection.event(last("!", "Hi!"))
        connection.chunk()

    client, _ = connect(script)
    assert text_of(client) == client.generate("x").generated_text == "Hi!"


@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("body", [RESULT, [RESULT]], ids=["object", "list"])
def test_a_document_in_place_of_a_stream(connect, body, label):
    client, _ = connect(lambda c: (c.head(content_type=label), c.chunk(json.dumps(body)), c.chunk()))
    assert text_of(client) == client.generate("x").generated_text == "Hi!"
    assert tokens_of(client)[-1].details.generated_tokens == 2


def test_what_is_not_needed_never_fails(connect):
    odd = token("Hi", details=None)
    odd["token"] |= {"id": "1", "alternative_tokens": 5, "skipped": None}
    end = last("!", "Hi!")
    end["details"] |= {
        "prompt_tokens": None,
        "generated_tokens": 2.0,
        "seed": "x",
        "finish_reason": "MAX_TOKENS",
    }
    client, _ = connect(
        streams("data:\n\n", odd, "data: {}\n\n", "event: ping\ndata: hm\n\n", "data: [DONE] \n\n", end)
    )
    found = tokens_of(client)
    assert [one.token.text for one in found] == ["Hi", "!"]
    assert (found[-1].details.finish_reason, found[-1].details.prompt_tokens) == ("length", 0)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_the_last_event_ends_with_its_line(connect, newline):
    """The connection stays open: the answer is complete with the last CR."""

    def script(connection):
        connection.head()
        connection.chunk(f"data: {json.dumps(last('Hi', 'Hi'))}\n\n".replace("\n", newline))
        assert connection.wait_gone(20)

    client, _ = connect(script)
    assert text_of(client) == "Hi"


def test_an_event_without_its_empty_line(connect):
    client, _ = connect(streams(token("Hi"), f"data: {json.dumps(last('!', 'Hi!'))}"))
    assert text_of(client) == "Hi!"


# connections


def test_connections_are_reused(connect):
    client, server = connect(
        lambda c: streams(token("a"), last("b", "ab"))(c) if c.body["stream"] else c.json(WHOLE)
    )
    for _ in range(3):
        assert client.generate("x").generated_text == "Hello"
        assert text_of(client) == "ab"
    assert server.connections == 1


def test_a_connection_that_the_server_closed_is_not_reused(connect):
    client, server = connect(lambda c: (c.json(WHOLE), c.sock.shutdown(socket.SHUT_RDWR)))
    for _ in range(3):
        assert client.generate("x").generated_text == "Hello"
        time.sleep(0.05)
    assert server.connections == 3


def test_close_closes_connections(connect):
    gone = []

    def script(connection):
        connection.json(WHOLE)
        gone.append(connection.wait_gone())

    client, _ = connect(script)
    client.generate("x")
    client._run(client.llm.aclose()) if client.asynchronous else client.llm.close()
    end = time.monotonic() + 10
    while not gone and time.monotonic() < end:
        time.sleep(0.01)
    assert gone == [True]


def test_closed_client_opens_new_connections(connect):
    client, server = connect(lambda c: c.json(WHOLE))
    client.generate("x")
    client._run(client.llm.aclose()) if client.asynchronous else client.llm.close()
    for _ in range(3):
        assert client.generate("x").generated_text == "Hello"
    assert server.connections == 2


def test_context_managers():
    with ScriptedServer(lambda c: c.json(WHOLE)) as server:
        with Client(server.url) as client:
            assert client.generate("x").generated_text == "Hello"

        async def asynchronously():
            async with AsyncClient(server.url) as client:
                return (await client.generate("x")).generated_text

        assert asyncio.run(asynchronously()) == "Hello"


def test_leaving_a_stream_closes_its_connection(connect):
    left = []

    def script(connection):
        connection.head()
        connection.event(token("a"))
        left.append(connection.wait_gone())

    client, _ = connect(script)
    with client.stream("generate_stream", "x") as stream:
        next(iter(stream))
    end = time.monotonic() + 10
    while not left and time.monotonic() < end:
        time.sleep(0.01)
    assert left == [True]


def test_a_garbage_collected_stream_is_closed():
    with (
        ScriptedServer(lambda c: (c.head(), c.event(token("a")), c.wait_gone())) as server,
        Client(server.url) as client,
    ):
        stream = client.generate_stream("x")
        next(stream)
        source = stream._source
        del stream
        gc.collect()
        with pytest.raises(StopIteration):
            next(source)


async def test_cancelling_a_task_closes_the_connection():
    gone = []

    def script(connection):
        connection.head()
        connection.event(token("a"))
        gone.append(connection.wait_gone())

    with ScriptedServer(script) as server:
        async with AsyncClient(server.url) as client:

            async def read():
                async for _ in client.generate_stream("x"):
                    started.set()

            started = asyncio.Event()
            task = asyncio.create_task(read())
            await asyncio.wait_for(started.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(500):
                if gone:
                    break
                await asyncio.sleep(0.01)
            assert gone == [True]


async def test_1000_concurrent_streams():
    def script(connection):
        connection.head()
        connection.event(token(connection.body["inputs"]))
        connection.event(last("!", "whole"))
        connection.chunk()

    with ScriptedServer(script) as server:
        async with AsyncClient(server.url, timeout=Timeout(connect=60)) as client:

            async def read(number):
                return "".join([one.token.text async for one in client.generate_stream(str(number))])

            found = await asyncio.gather(*map(read, range(1000)))
    assert found == [f"{number}!" for number in range(1000)]


def test_one_object_serves_several_loops():
    with ScriptedServer(lambda c: c.json(WHOLE)) as server:
        client = AsyncClient(server.url)

        async def call():
            return (await client.generate("x")).generated_text

        assert [asyncio.run(call()) for _ in range(3)] == ["Hello"] * 3


# retries


def test_retryable_errors_are_retried_before_the_first_token(connect):
    answers = [
        lambda c: c.json({"error": "Model is overloaded", "error_type": "overloaded"}, 429, Retry_After="0"),
        lambda c: c.json({"error": "x"}, 503, Retry_After="0"),
        streams({"error": "Model is overloaded", "error_type": "overloaded"}),
        streams(token("a"), last("b", "ab")),
    ]
    client, server = connect(lambda c: answers[len(server.requests) - 1](c), max_session_retries=3)
    assert text_of(client) == "ab"
    assert len(server.requests) == 4


def test_requests_that_may_have_run_are_not_retried(connect):
    client, server = connect(lambda c: c.sock.close(), max_session_retries=3)
    with pytest.raises(StreamInterrupted):
        client.generate("x")
    assert len(server.requests) == 1
    overloaded = {"error": "x", "error_type": "overloaded"}
    client, server = connect(streams(token("a"), overloaded), max_session_retries=3)
    with pytest.raises(RateLimited):
        tokens_of(client)
    assert len(server.requests) == 1
    client, server = connect(
        lambda c: c.json({"error": "x", "error_type": "generation"}, 424), max_session_retries=3
    )
    with pytest.raises(errors.GenerationError):
        client.generate("x")
    assert len(server.requests) == 1


def test_no_server_listens(connect):
    url = f"http://user:a_password@127.0.0.1:{free_port()}"
    client, _ = connect(lambda c: None, url=url, max_session_retries=1)
    with pytest.raises(ConnectError) as caught:
        client.generate("x")
    assert "a_password" not in str(caught.value) + repr(client.llm)


def test_a_dead_host_fails_within_the_connect_timeout(connect):
    """A host that drops packets: a connect timeout is not retried."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(4):  # the queue of a listener that never accepts
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        url = "http://{}:{}".format(*listener.getsockname())
        client, _ = connect(lambda c: None, url=url, timeout=0.5, max_session_retries=2)
        began = time.monotonic()
        with pytest.raises(TimeoutExceeded) as caught:
            client.generate("x")
        assert caught.value.seconds == 0.5
        assert time.monotonic() - began < 60  # the old client took 180 s with timeout=3
        for filler in fillers:
            filler.close()


# timeouts


def test_timeouts_are_in_seconds_and_apply_to_streams(connect):
    def script(connection):
        connection.head()
        connection.event(token("a"))
        while True:
            connection.chunk(":\n\n")  # a keep-alive comment is not part of the answer
            time.sleep(0.05)

    client, _ = connect(script, timeout=0.5)
    with pytest.raises(TimeoutExceeded) as caught:
        tokens_of(client)
    assert (caught.value.phase, caught.value.seconds, caught.value.partial) == ("idle", 0.5, "a")
    client, _ = connect(lambda c: c.wait_gone(), timeout=Timeout(first_token=0.3))
    for call in (client.generate, lambda prompt: tokens_of(client)):
        with pytest.raises(TimeoutExceeded) as caught:
            call("x")
        assert caught.value.phase == "first_token"


@pytest.mark.parametrize(
    "given",
    [
        {"base_url": "ftp://x"}, {"base_url": ""}, {"base_url": 5}, {"timeout": 0}, {"timeout": "60"},
        {"timeout": True}, {"headers": ["a"]}, {"headers": {"a": 5}}, {"headers": {"a": "b\r\nc: d"}},
        {"cookies": "a=b"}, {"max_session_retries": -1}, {"max_session_retries": None},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cls", [Client, AsyncClient])
def test_invalid_arguments_are_named(cls, given):
    with pytest.raises(errors.ValidationError, match=next(iter(given))):
        cls(**{"base_url": "http://127.0.0.1:1", **given})


def test_timeout_none_sets_no_limit():
    client = Client("127.0.0.1:1", timeout=None)
    assert client.base_url == "http://127.0.0.1:1"
    assert (client._timeout.first_token, client._timeout.idle, client._timeout.connect) == (None, None, 5)


# the backends


@pytest.fixture(params=[LoRAX, AsyncLoRAX], ids=["sync", "async"])
def backend(request):
    made = []

    def backend(script, **kwargs):
        server = ScriptedServer(script)
        made.extend((Caller(request.param(server.url, **{"max_retries": 0, **kwargs})), server))
        return made[-2], server

    yield backend
    for one in made:
        one.close()


def test_a_backend_reads_tool_calls(backend):
    """The router sends arguments as an object, and tool calls only without streaming."""
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    message = {"role": "assistant", "tool_calls": [call]}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    client, server = backend(lambda c: c.json(whole))
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    completion = client.complete([{"role": "user", "content": "1 + 1"}], tools=tools)
    (found,) = completion.tool_calls
    assert (found.name, found.arguments) == ("add", {"a": 1})
    assert server.requests[0].body["stream"] is False
    assert server.requests[0].body["tools"] == tools


@pytest.mark.parametrize(
    ("word", "text", "reason", "native"),
    [
        ("eos_token", "Hi", "stop", "eos_token"),
        ("eos", "Hi", "stop", "eos_token"),
        ("stop_sequence", "Hi</s>", "stop", "stop_sequence"),
        ("max_tokens", "Hi</s>", "length", ""),
        ("bored", "Hi</s>", "stop", "bored"),
    ],
)
def test_a_backend_reads_finish_reasons(backend, word, text, reason, native):
    end = last("</s>", "Hi")
    end["details"]["finish_reason"] = word
    client, _ = backend(streams(token("Hi"), end))
    completion = client.complete("x")
    assert (completion.text, completion.finish_reason, completion.native_finish_reason) == (
        text,
        reason,
        native,
    )


def test_a_backend_fails_where_the_answer_did(backend):
    end = last("", "Hi")
    end["details"]["finish_reason"] = "error"
    client, _ = backend(streams(token("Hi"), end))
    with pytest.raises(ServerError, match="'error'") as caught:
        client.complete("x")
    assert caught.value.partial == "Hi"


def test_a_backend_without_info(backend):
    """A gateway that forwards only generation: the default limit of four stop words applies."""

    def script(connection):
        if connection.path == "/info":
            connection.json({"error": "no such route"}, 404)
        else:
            streams(token("Hi"), last("!", "Hi!"))(connection)

    client, server = backend(script)
    assert client.generate("x", stop_words=list("abcdef")) == "Hi!"
    assert server.requests[-1].body["parameters"]["stop"] == list("abcd")


def test_greedy_and_no_op_values_are_not_sent(backend):
    client, server = backend(streams(token("Hi"), last("!", "Hi!")))
    client.generate("x", temperature=0)
    client.generate("x", temperature=0.5, top_p=1, top_k=None, repetition_penalty=1.1, seed=4)
    greedy, sampled = (request.body["parameters"] for request in server.requests)
    assert greedy["do_sample"] is False
    assert not {"temperature", "top_p", "top_k", "seed", "repetition_penalty"} & set(greedy)
    assert (sampled["do_sample"], sampled["temperature"], sampled["seed"]) == (True, 0.5, 4)
    assert sampled["repetition_penalty"] == 1.1
    assert not {"top_p", "top_k"} & set(sampled)


def test_credentials_are_masked_in_errors_and_repr(backend):
    refusal = {"error": "token tok_secret is wrong, and so is key_secret", "error_type": "generation"}
    client, _ = backend(lambda c: c.json(refusal, 424), api_key="key_secret", api_token="tok_secret")
    with pytest.raises(LLMError) as caught:
        client.generate("x")
    assert str(caught.value) == "token *** is wrong, and so is ***"
    assert "secret" not in repr(client.llm)
