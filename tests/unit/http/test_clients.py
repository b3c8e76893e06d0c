"""Both HTTP clients against scripted faults, through `LMDeployClient` and `AsyncLMDeployClient`."""

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
import zlib

import pytest

from lagent_llms import (
    AsyncLMDeployClient,
    AuthenticationError,
    BatchError,
    ConnectError,
    InvalidArgument,
    LLMError,
    LMDeployClient,
    ModelStatusCode,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from tests.scripted_server import ScriptedServer, free_port, slowly

CHINESE = "你好，世界！😀 <|im_end|"


def text_of(client, method="stream_generate", **kwargs):
    with client.stream(method, "x", **kwargs) as stream:
        *_, last = stream
    return last.text


# answers


def test_streamed_answer(connect):
    client, server = connect(lambda c: c.answer("Hel", "lo"))
    completion = client.complete("x", temperature=0, stop_words="<|end|>")
    assert (completion.text, completion.finish_reason) == ("Hello", "stop")
    assert completion.usage.completion_tokens == 2
    (request,) = server.requests
    assert request.path == "/v1/completions"
    assert request.body["prompt"] == "x"
    assert (request.body["stream"], request.body["stop"], request.body["temperature"]) == (
        True,
        ["<|end|>"],
        0,
    )
    assert request.body["skip_special_tokens"] is False


def test_answer_without_streaming(connect):
    whole = {"choices": [{"text": "Hello", "finish_reason": "length"}], "usage": {"prompt_tokens": 1}}
    client, server = connect(lambda c: c.json(whole))
    assert client.generate("x", stream=False) == "Hello"
    assert server.requests[0].body["stream"] is False


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_text_split_at_any_byte(connect, size):
    def script(connection):
        send, connection.send = connection.send, lambda data: slowly(send, data, size)
        connection.answer(*CHINESE)

    client, _ = connect(script)
    assert client.generate("x", stop_words="<|im_end|>") == CHINESE


def test_connections_are_reused(connect):
    client, server = connect(lambda c: c.answer("a"))
    for _ in range(5):
        assert client.generate("x") == "a"
    assert text_of(client) == "a"
    assert server.connections == 1


def test_connection_with_a_delayed_last_chunk_is_reused(connect):
    def script(connection):
        connection.head()
        connection.text("a", "stop")
        connection.event("[DONE]")
        time.sleep(0.005)
        connection.chunk()

    client, server = connect(script)
    for _ in range(3):
        assert client.generate("x") == "a"
        time.sleep(0.05)
    assert server.connections == 1


def test_body_of_unknown_length_ends_with_the_connection(connect):
    def script(connection):
        connection.head(Transfer_Encoding=None, Connection="close")
        connection.send('data: {"choices": [{"text": "a", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
        connection.sock.close()

    client, _ = connect(script)
    assert client.generate("x") == "a"


def test_a_long_stream(connect):
    def script(connection):
        connection.head()
        for start in range(0, 100_000, 500):
            connection.send(
                b"".join(
                    b"%x\r\n%s\r\n" % (len(e), e)
                    for i in range(start, start + 500)
                    for e in [b'data: {"choices":[{"text":"%d "}]}\n\n' % i]
                )
            )
        connection.text("", "stop")
        connection.event("[DONE]")
        connection.chunk()

    client, _ = connect(script)
    assert client.generate("x") == "".join(f"{i} " for i in range(100_000))


def test_headers_key_and_request_id(connect):
    client, server = connect(lambda c: c.answer("a"), api_key="secret", headers={"X-Team": "blue"})
    client.generate("x", request_id="r1")
    headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer secret"
    assert (headers["x-team"], headers["x-request-id"]) == ("blue", "r1")
    assert "secret" not in repr(client.llm)


@pytest.mark.parametrize("url", ["http://me:p%40ss@{}", "{}/prefix path/"])
def test_base_url_with_a_user_or_a_path(connect, url):
    _, server = connect(lambda c: c.answer("a"))
    client, _ = connect(None, url=url.format(server.url.removeprefix("http://")))
    assert client.generate("x") == "a"
    (request,) = server.requests
    if "@" in url:
        assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    else:
        assert request.path == "/prefix%20path/v1/completions"


@pytest.mark.parametrize("kwargs", [{"headers": {"X-Team": "blue\r\nX-Admin: 1"}}, {"api_key": "a\nb"}])
def test_header_injection_is_rejected(connect, kwargs):
    client, server = connect(lambda c: c.answer("a"), **kwargs)
    with pytest.raises(InvalidArgument):
        client.generate("x")
    client, _ = connect(None, url=server.url)
    with pytest.raises(InvalidArgument):
        client.generate("x", request_id="a\r\nb")
    assert not server.requests


# stopping


def wait_disconnected(server):
    return server.requests[0].wait_gone()


def endless(connection):
    connection.head()
    try:
        while True:
            connection.text("word ")
            time.sleep(0.002)
    except OSError:
        pass


def test_leaving_a_stream_closes_the_connection(connect):
    client, server = connect(endless)
    with client.stream("stream_generate", "x") as stream:
        next(iter(stream))
    gc.collect()
    assert wait_disconnected(server)


def test_a_stop_word_ends_the_generation(connect):
    client, server = connect(endless)
    assert client.generate("x", stop_words="word w") == ""
    assert wait_disconnected(server)


def test_cancelling_a_task_closes_the_connection():
    received = threading.Event()

    async def main(server):
        async with AsyncLMDeployClient(server.url, "m") as llm:
            task = asyncio.create_task(llm.generate("x"))
            assert await asyncio.to_thread(received.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(wait_disconnected, server)

    with ScriptedServer(lambda c: received.set()) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("begin", [lambda c: c.head(), lambda c: None], ids=["after the head", "before it"])
def test_closing_from_another_thread_ends_the_wait(begin):
    begun = threading.Event()

    def script(connection):
        begin(connection)
        begun.set()

    with ScriptedServer(script) as server, LMDeployClient(server.url, "m", timeout=60) as llm:
        stream = llm.stream_generate("x")
        found = []
        reader = threading.Thread(target=lambda: found.extend(stream))
        reader.start()
        assert begun.wait(30)
        stream.close()
        reader.join(30)
        assert not reader.is_alive()
        assert found == []
        assert wait_disconnected(server)


# faults


def reset_mid_stream(connection):
    connection.head()
    connection.text("Hel")
    connection.reset()


def ended_early(connection):
    connection.head()
    connection.text("Hel")
    connection.chunk()


def closed_early(connection):
    connection.head()
    connection.text("Hel")
    connection.sock.close()


def error_event(connection):
    connection.head()
    connection.text("Hel")
    connection.event({"error": {"message": "out of memory", "code": 500}})


def invalid_chunk(connection):
    connection.head()
    connection.text("Hel")
    connection.send("this is no chunk\r\n")


def test_invalid_chunk_in_a_stream(connect):
    client, _ = connect(invalid_chunk)
    with pytest.raises((StreamInterrupted, TimeoutExceeded)):
        text_of(client, timeout=1)


@pytest.mark.parametrize("script", [reset_mid_stream, ended_early, closed_early])
def test_broken_stream_raises(connect, script):
    client, _ = connect(script)
    with pytest.raises(StreamInterrupted) as caught:
        text_of(client)
    assert caught.value.partial == "Hel"
    with pytest.raises(StreamInterrupted):
        client.generate("x")
    with client.stream("stream_generate", "x", on_error="status") as stream:
        *_, last = stream
    assert tuple(last)[:2] == (ModelStatusCode.SERVER_ERR, "Hel")


def test_error_event_in_a_stream(connect):
    client, _ = connect(error_event)
    with pytest.raises(ServerError, match="out of memory") as caught:
        client.generate("x")
    assert (caught.value.status_code, caught.value.partial) == (500, "Hel")


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ServerError), (401, AuthenticationError), (404, NotFound), (500, ServerError)]
)
def test_error_responses(connect, status, kind):
    client, server = connect(lambda c: c.json({"message": "because", "code": status}, status))
    with pytest.raises(kind, match="because") as caught:
        client.generate("x")
    assert caught.value.status_code == status
    assert server.url in str(caught.value)


def test_plain_text_errors(connect):
    def script(connection):
        connection.head(500, "text/plain", Transfer_Encoding=None, Content_Length="5")
        connection.send("sorry")

    client, _ = connect(script)
    with pytest.raises(ServerError, match="sorry"):
        client.generate("x")


def test_error_body_with_status_200(connect):
    client, _ = connect(lambda c: c.json({"error_code": 10400, "text": "no such model"}))
    with pytest.raises(NotFound, match="no such model"):
        client.generate("x")


def test_response_that_is_not_http(connect):
    client, _ = connect(lambda c: c.send("SSH-2.0-OpenSSH\r\n"))
    with pytest.raises(StreamInterrupted):
        client.generate("x")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + b"A: 1\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: zip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 503 X\r\nContent-Length: 5\r\nRetry-After: soon\r\n\r\n\xff\xfe{[\0",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: [1]\n\n\xff",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"\0" * 100,
    ],
)
def test_invalid_responses_raise_llm_errors(connect, data):
    def script(connection):
        connection.send(data)
        connection.sock.close()

    client, _ = connect(script)
    for stream in (True, False):
        with pytest.raises(LLMError):
            client.generate("x", stream=stream)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_is_decoded(connect, encoding):
    event = b'data: {"choices": [{"text": "Hello", "finish_reason": "stop"}]}\n\n'

    def script(connection):
        assert connection.headers["accept-encoding"] == "identity"
        connection.head(Content_Encoding=encoding)
        packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
        for data in (event, b"data: [DONE]\n\n"):
            connection.chunk(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))
        connection.chunk(packer.flush())
        connection.chunk()

    client, _ = connect(script)
    assert client.generate("x") == "Hello"


def test_connection_refused_and_unknown_host(connect):
    client, _ = connect(None, url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ConnectError, match="(?i)refused"):
        client.generate("x")
    client, _ = connect(None, url="http://no-such-host.invalid")
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid"):
        client.generate("x")


def test_tls_to_a_server_without_tls(connect):
    def refuse(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse, args=[listener], daemon=True).start()
        client, _ = connect(None, url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ConnectError):
            client.generate("x")
        listener.shutdown(socket.SHUT_RDWR)


def test_connect_timeout_covers_the_tls_handshake(connect):
    _, server = connect(lambda c: None)
    client, _ = connect(None, url=server.url.replace("http:", "https:"))
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(connect=0.2))
    assert caught.value.phase == "connect"


def test_redirects_are_not_followed(connect):
    client, _ = connect(lambda c: c.json({}, 307, Location="http://elsewhere.invalid/"))
    with pytest.raises(ServerError) as caught:
        client.generate("x")
    assert caught.value.status_code == 307


def test_proxy_from_the_environment_is_used(connect, monkeypatch):
    with ScriptedServer(lambda c: c.answer("by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://me:p%40ss@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        client, _ = connect(None, url="http://model.test")
        assert client.generate("x") == "by proxy"
        (request,) = proxy.requests
        assert request.path == "http://model.test/v1/completions"
        assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        direct, _ = connect(lambda c: c.answer("direct"))
        assert direct.generate("x") == "direct"


# timeouts


def silent(connection):
    connection.head()


def keep_alive(connection):
    connection.head()
    try:
        for _ in range(200):
            connection.chunk(": keep-alive\n\n")
            time.sleep(0.02)
    except OSError:
        pass


@pytest.mark.parametrize("script", [lambda c: None, silent, keep_alive], ids=["nothing", "head", "comments"])
def test_first_token_timeout(connect, script):
    client, server = connect(script)
    started = time.monotonic()
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(first_token=0.5, idle=60))
    assert caught.value.phase == "first_token"
    assert time.monotonic() - started < 20
    assert wait_disconnected(server)


def test_idle_timeout(connect):
    def script(connection):
        connection.head()
        connection.text("Hel")

    client, _ = connect(script)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(idle=0.2))
    assert (caught.value.phase, caught.value.partial) == ("idle", "Hel")


def test_slow_reader_does_not_expire_the_idle_timeout(connect):
    received = threading.Event()

    def script(connection):
        connection.head()
        connection.text("Hel")
        received.wait(10)
        time.sleep(0.1)
        connection.text("lo", "stop")
        connection.event("[DONE]")
        connection.chunk()

    client, _ = connect(script)
    with client.stream("stream_generate", "x", timeout=Timeout(first_token=2, idle=2)) as stream:
        assert next(stream).text == "Hel"
        time.sleep(2.5)
        received.set()
        *_, last = stream
    assert last.text == "Hello"


def test_timeout_covers_the_model_lookup(connect):
    ended = threading.Event()
    client, _ = connect(lambda connection: ended.wait(30))
    client.llm.model_name = None  # the client requests it from the server
    began = time.monotonic()
    with pytest.raises(TimeoutExceeded):
        client.generate("x", timeout=0.3)
    assert time.monotonic() - began < 25
    ended.set()


def test_a_closed_client_lists_no_models(connect):
    client, _ = connect(lambda connection: connection.json({"data": []}))
    client.shut()
    with pytest.raises(LLMError, match="is closed"):
        client.models()


def test_total_timeout(connect):
    client, _ = connect(endless)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(total=1))
    assert caught.value.phase == "total"
    assert caught.value.partial.startswith("word")


# retries


def busy_until(attempts, **headers):
    count = iter(range(1, 100))

    def script(connection):
        if next(count) < attempts:
            connection.json({"message": "busy"}, 429, **headers)
        else:
            connection.answer("at last")

    return script


def test_busy_server_is_retried(connect):
    client, server = connect(busy_until(3, Retry_After="0.01"), max_retries=2)
    assert client.generate("x") == "at last"
    assert len(server.requests) == 3


def test_retries_are_limited(connect):
    client, server = connect(busy_until(9, Retry_After="0.01"), max_retries=2)
    with pytest.raises(RateLimited) as caught:
        client.generate("x")
    assert caught.value.retry_after == 0.01
    assert len(server.requests) == 3


def test_broken_answer_is_not_retried(connect):
    client, server = connect(reset_mid_stream, max_retries=5)
    with pytest.raises(StreamInterrupted):
        client.generate("x")
    assert len(server.requests) == 1


def test_requests_are_balanced_and_an_unreachable_server_is_avoided(connect):
    slow = threading.Event()

    def script(connection):
        slow.wait(0.05)
        connection.answer("a")

    with ScriptedServer(script) as second:
        dead = f"http://127.0.0.1:{free_port()}"
        _, first = connect(script)
        client, _ = connect(script, url=[first.url, dead, second.url], max_retries=2)
        assert client.generate(["x"] * 12) == ["a"] * 12
        assert len(first.requests) + len(second.requests) == 12
        assert min(len(first.requests), len(second.requests)) >= 4


# concurrency


def test_batch_keeps_the_order_and_reports_errors(connect):
    answered = [threading.Event() for _ in range(10)]

    def script(connection):
        prompt = connection.body["prompt"]
        for later in answered[int(prompt) + 1 :][:1]:  # answered in reverse order
            later.wait(30)
        if prompt == "4":
            connection.json({"message": "no four"}, 400)
        else:
            connection.answer(prompt)
        answered[int(prompt)].set()

    client, _ = connect(script, max_concurrency=10)
    with pytest.raises(BatchError, match=r"inputs\[4\]") as caught:
        client.generate([str(i) for i in range(10)])
    results = caught.value.results
    assert isinstance(results.pop(4), ServerError)
    assert results == [str(i) for i in range(10) if i != 4]


def test_max_concurrency_limits_requests_in_flight(connect):
    now, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(3, timeout=30)

    def script(connection):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait()
        with lock:
            now[0] -= 1
        connection.answer("a")

    client, _ = connect(script, max_concurrency=3)
    client.generate(["x"] * 21)
    assert most[0] == 3


async def test_1000_concurrent_streams():
    together = threading.Barrier(1000, timeout=120)

    def script(connection):
        mine = connection.body["prompt"]
        connection.head()
        connection.text(f"{mine}: ")
        together.wait()
        for number in range(5):
            connection.text(f"第{number}块 of {mine} <|im_")
        connection.text("", "stop")
        connection.event("[DONE]")
        connection.chunk()

    async def read(llm, prompt):
        so_far = []
        async for status, text, _ in llm.stream_generate(prompt):  # noqa: B007
            assert text.startswith(so_far[-1] if so_far else "")
            so_far.append(text)
        assert status == ModelStatusCode.END
        return so_far[-1]

    prompts = [f"prompt {number}" for number in range(1000)]
    with ScriptedServer(script) as server:
        patient = Timeout(connect=60, first_token=60, idle=60)
        async with AsyncLMDeployClient(server.url, "m", stop_words="<|im_end|>", timeout=patient) as llm:
            texts = await asyncio.gather(*(read(llm, prompt) for prompt in prompts))
    assert texts == [
        f"{prompt}: " + "".join(f"第{number}块 of {prompt} <|im_" for number in range(5))
        for prompt in prompts
    ]


def test_one_object_serves_several_loops():
    code = """
import asyncio, sys
from lagent_llms import AsyncLMDeployClient
llm = AsyncLMDeployClient(sys.argv[1], "m")
for _ in range(3):
    print(asyncio.run(llm.generate("x")))
"""
    with ScriptedServer(lambda c: c.answer("a")) as server:
        done = subprocess.run(
            [sys.executable, "-Wd", "-c", code, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("a\n" * 3, "")
