"""The two HTTP drivers against a server that plays every fault, through `LMDeployClient` and its twin."""

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


def test_an_answer_streamed_on_the_wire(connect):
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


def test_an_answer_in_one_piece(connect):
    whole = {"choices": [{"text": "Hello", "finish_reason": "length"}], "usage": {"prompt_tokens": 1}}
    client, server = connect(lambda c: c.json(whole))
    assert client.generate("x", stream=False) == "Hello"
    assert server.requests[0].body["stream"] is False


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_text_cut_anywhere_on_the_wire(connect, size):
    def script(connection):
        send, connection.send = connection.send, lambda data: slowly(send, data, size)
        connection.answer(*CHINESE)

    client, _ = connect(script)
    assert client.generate("x", stop_words="<|im_end|>") == CHINESE


def test_connections_are_used_again(connect):
    client, server = connect(lambda c: c.answer("a"))
    for _ in range(5):
        assert client.generate("x") == "a"
    assert text_of(client) == "a"
    assert server.connections == 1


def test_a_connection_is_used_again_though_the_end_comes_late(connect):
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


def test_bodies_without_chunks_end_with_the_connection(connect):
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
def test_a_base_url_may_have_a_user_or_a_path(connect, url):
    _, server = connect(lambda c: c.answer("a"))
    client, _ = connect(None, url=url.format(server.url.removeprefix("http://")))
    assert client.generate("x") == "a"
    (request,) = server.requests
    if "@" in url:
        assert request.headers["authorization"] == "Basic bWU6cEBzcw=="
    else:
        assert request.path == "/prefix%20path/v1/completions"


@pytest.mark.parametrize("kwargs", [{"headers": {"X-Team": "blue\r\nX-Admin: 1"}}, {"api_key": "a\nb"}])
def test_a_header_that_would_be_two_is_refused(connect, kwargs):
    client, server = connect(lambda c: c.answer("a"), **kwargs)
    with pytest.raises(InvalidArgument):
        client.generate("x")
    client, _ = connect(None, url=server.url)
    with pytest.raises(InvalidArgument):
        client.generate("x", request_id="a\r\nb")
    assert not server.requests


# stopping


def until_gone(server):
    return server.requests[0].wait_gone()


def endless(connection):
    connection.head()
    try:
        while True:
            connection.text("word ")
            time.sleep(0.002)
    except OSError:
        pass


def test_leaving_a_stream_closes_the_connection_at_once(connect):
    client, server = connect(endless)
    with client.stream("stream_generate", "x") as stream:
        next(iter(stream))
    gc.collect()
    assert until_gone(server)


def test_a_stop_word_ends_the_generation(connect):
    client, server = connect(endless)
    assert client.generate("x", stop_words="word w") == ""
    assert until_gone(server)


def test_cancelling_a_task_closes_the_connection():
    asked = threading.Event()

    async def main(server):
        async with AsyncLMDeployClient(server.url, "m") as llm:
            task = asyncio.create_task(llm.generate("x"))
            assert await asyncio.to_thread(asked.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(until_gone, server)

    with ScriptedServer(lambda c: asked.set()) as server:
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
        assert until_gone(server)


# faults


def cut(connection):
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


def garbage(connection):
    connection.head()
    connection.text("Hel")
    connection.send("this is no chunk\r\n")


def test_garbage_in_the_stream(connect):
    client, _ = connect(garbage)
    with pytest.raises((StreamInterrupted, TimeoutExceeded)):
        text_of(client, timeout=1)


@pytest.mark.parametrize("script", [cut, ended_early, closed_early])
def test_a_broken_stream_is_no_success(connect, script):
    client, _ = connect(script)
    with pytest.raises(StreamInterrupted) as caught:
        text_of(client)
    assert caught.value.partial == "Hel"
    with pytest.raises(StreamInterrupted):
        client.generate("x")
    with client.stream("stream_generate", "x", on_error="status") as stream:
        *_, last = stream
    assert tuple(last)[:2] == (ModelStatusCode.SERVER_ERR, "Hel")


def test_an_error_in_the_stream(connect):
    client, _ = connect(error_event)
    with pytest.raises(ServerError, match="out of memory") as caught:
        client.generate("x")
    assert (caught.value.status_code, caught.value.partial) == (500, "Hel")


@pytest.mark.parametrize(
    ("status", "kind"), [(400, ServerError), (401, AuthenticationError), (404, NotFound), (500, ServerError)]
)
def test_refusals(connect, status, kind):
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


def test_errors_of_the_proxy_come_as_success(connect):
    client, _ = connect(lambda c: c.json({"error_code": 10400, "text": "no such model"}))
    with pytest.raises(NotFound, match="no such model"):
        client.generate("x")


def test_not_http(connect):
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
def test_hostile_answers_fail_as_our_errors(connect, data):
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


def test_nobody_there(connect):
    client, _ = connect(None, url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ConnectError, match="(?i)refused"):
        client.generate("x")
    client, _ = connect(None, url="http://no-such-host.invalid")
    with pytest.raises(ConnectError, match=r"no-such-host\.invalid"):
        client.generate("x")


def test_tls_where_there_is_none(connect):
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


def test_a_handshake_is_part_of_connecting(connect):
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


def test_a_proxy_of_the_environment_is_used(connect, monkeypatch):
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


# time


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
def test_the_first_token_is_waited_for_only_so_long(connect, script):
    client, server = connect(script)
    started = time.monotonic()
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(first_token=0.5, idle=60))
    assert caught.value.phase == "first_token"
    assert time.monotonic() - started < 20
    assert until_gone(server)


def test_a_pause_in_the_answer_is_waited_for_only_so_long(connect):
    def script(connection):
        connection.head()
        connection.text("Hel")

    client, _ = connect(script)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(idle=0.2))
    assert (caught.value.phase, caught.value.partial) == ("idle", "Hel")


def test_a_slow_reader_is_no_slow_server(connect):
    asked = threading.Event()

    def script(connection):
        connection.head()
        connection.text("Hel")
        asked.wait(10)
        time.sleep(0.1)
        connection.text("lo", "stop")
        connection.event("[DONE]")
        connection.chunk()

    client, _ = connect(script)
    with client.stream("stream_generate", "x", timeout=Timeout(first_token=2, idle=2)) as stream:
        assert next(stream).text == "Hel"
        time.sleep(2.5)
        asked.set()
        *_, last = stream
    assert last.text == "Hello"


def test_what_comes_before_the_answer_is_waited_for_only_so_long(connect):
    ended = threading.Event()
    client, _ = connect(lambda connection: ended.wait(30))
    client.llm.model_name = None  # the server is asked for it
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


def test_the_whole_answer_takes_only_so_long(connect):
    client, _ = connect(endless)
    with pytest.raises(TimeoutExceeded) as caught:
        client.generate("x", timeout=Timeout(total=1))
    assert caught.value.phase == "total"
    assert caught.value.partial.startswith("word")


# again


def busy_until(attempts, **headers):
    count = iter(range(1, 100))

    def script(connection):
        if next(count) < attempts:
            connection.json({"message": "busy"}, 429, **headers)
        else:
            connection.answer("at last")

    return script


def test_busy_servers_are_asked_again(connect):
    client, server = connect(busy_until(3, Retry_After="0.01"), max_retries=2)
    assert client.generate("x") == "at last"
    assert len(server.requests) == 3


def test_retries_end(connect):
    client, server = connect(busy_until(9, Retry_After="0.01"), max_retries=2)
    with pytest.raises(RateLimited) as caught:
        client.generate("x")
    assert caught.value.retry_after == 0.01
    assert len(server.requests) == 3


def test_a_broken_answer_is_not_asked_for_again(connect):
    client, server = connect(cut, max_retries=5)
    with pytest.raises(StreamInterrupted):
        client.generate("x")
    assert len(server.requests) == 1


def test_several_servers_share_the_work_and_a_dead_one_is_left_out(connect):
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


# many


def test_a_batch_keeps_order_and_loses_nothing(connect):
    answered = [threading.Event() for _ in range(10)]

    def script(connection):
        prompt = connection.body["prompt"]
        for later in answered[int(prompt) + 1 :][:1]:  # the last comes first
            later.wait(30)
        if prompt == "4":
            connection.json({"message": "no four"}, 400)
        else:
            connection.answer(prompt)
        answered[int(prompt)].set()

    client, _ = connect(script)
    with pytest.raises(BatchError, match=r"inputs\[4\]") as caught:
        client.generate([str(i) for i in range(10)])
    results = caught.value.results
    assert isinstance(results.pop(4), ServerError)
    assert results == [str(i) for i in range(10) if i != 4]


def test_a_bounded_number_is_in_flight(connect):
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


async def test_a_thousand_streams_at_once():
    together = threading.Barrier(1000, timeout=60)

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
        async for status, text, _ in llm.stream_generate(prompt, timeout=60):  # noqa: B007
            assert text.startswith(so_far[-1] if so_far else "")
            so_far.append(text)
        assert status == ModelStatusCode.END
        return so_far[-1]

    prompts = [f"prompt {number}" for number in range(1000)]
    with ScriptedServer(script) as server:
        async with AsyncLMDeployClient(server.url, "m", stop_words="<|im_end|>") as llm:
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
