"""The asynchronous transport over a caller's `aiohttp.ClientSession` and over our own connector."""

import asyncio
import gzip
import inspect
import subprocess
import sys
import threading
import traceback
import types
import warnings

import aiohttp
import pytest
import requests
from aioresponses import aioresponses

from lagent_llms import (
    AsyncLMDeployClient,
    ConnectError,
    InvalidArgument,
    LLMError,
    NotFound,
    ServerError,
    StreamInterrupted,
    Timeout,
    TimeoutExceeded,
)
from lagent_llms.http.async_client import AsyncHTTPTransport
from lagent_llms.http.endpoints import Endpoints
from tests.scripted_server import ScriptedServer
from tests.unit.http.connect_proxy import ConnectProxy

BASIC = "Basic bWU6cEBzcw=="  # me:p@ss


def client(url, **options):
    """Make a client and its transport, which raises for invalid arguments."""
    llm = AsyncLMDeployClient(url, "m", max_retries=0, **options)
    assert llm.transport
    return llm


@pytest.fixture
def server():
    with ScriptedServer(lambda c: c.answer("a", "b")) as server:
        yield server


# a caller's session


async def test_session_headers_and_cookies_are_sent(server):
    headers = {"Authorization": "Bearer session", "User-Agent": "agent/1", "X-Team": "blue"}
    async with aiohttp.ClientSession(headers=headers, cookies={"flavour": "oat"}) as session:
        session.cookie_jar.update_cookies({"flavour": "oat"})
        llm = client(server.url.replace("127.0.0.1", "localhost"), session=session)
        assert await llm.generate("x") == "ab"
    sent = server.requests[0].headers
    assert (sent["authorization"], sent["user-agent"], sent["x-team"]) == (
        "Bearer session",
        "agent/1",
        "blue",
    )
    assert sent["cookie"] == "flavour=oat"
    assert sent["content-type"] == "application/json"
    assert sent["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("options", "user", "expected"),
    [
        ({"api_key": "backend"}, "", "Bearer backend"),
        ({"headers": {"authorization": "Token backend"}}, "", "Token backend"),
        ({"api_key": "backend"}, "me:p%40ss@", BASIC),
        ({}, "", "Bearer session"),
    ],
)
async def test_credentials_precedence(server, options, user, expected):
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer session"}) as session:
        llm = client(server.url.replace("//", f"//{user}"), session=session, **options)
        await llm.generate("x")
    assert server.requests[0].headers["authorization"] == expected


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
async def test_session_auth_cannot_be_combined_with_an_api_key(server):
    async with aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "p@ss")) as session:
        await client(server.url, session=session).generate("x")
        assert server.requests[0].headers["authorization"] == BASIC
        with pytest.raises(InvalidArgument, match="API key") as caught:
            client(server.url, session=session, api_key="k")
        assert caught.value.argument == "session"


async def test_session_is_reused_and_never_closed(server):
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with client(server.url, session=session) as llm:
                assert await llm.generate("x") == "ab"
        assert not session.closed
        assert await client(server.url, session=session).generate("x") == "ab"
    assert server.connections == 1


async def test_trace_hooks_and_middlewares_run(server):
    seen = []

    async def started(session, context, params):
        seen.append(str(params.url))

    async def middleware(request, handler):
        request.headers["X-Trace"] = "t1"
        return await handler(request)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    async with aiohttp.ClientSession(trace_configs=[trace], middlewares=(middleware,)) as session:
        assert await client(server.url, session=session).generate("x") == "ab"
    assert seen == [f"{server.url}/v1/completions"]
    assert server.requests[0].headers["x-trace"] == "t1"


async def test_session_timeout_applies():
    limits = aiohttp.ClientTimeout(total=0.2)
    with ScriptedServer(lambda c: c.head()) as server:
        async with aiohttp.ClientSession(timeout=limits) as session:
            with pytest.raises(TimeoutExceeded, match="session"):
                await client(server.url, session=session).generate("x")


async def test_raise_for_status_keeps_the_error_message():
    with ScriptedServer(lambda c: c.json({"message": "no such model", "code": 404}, 404)) as server:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            with pytest.raises(NotFound, match="no such model"):
                await client(server.url, session=session).generate("x")


@pytest.mark.parametrize("wrong", [requests.Session(), "session", aiohttp.ClientSession])
def test_invalid_session_is_rejected(wrong):
    with pytest.raises(InvalidArgument, match=r"allowed is a aiohttp\.ClientSession") as caught:
        AsyncHTTPTransport(Endpoints(["http://model.test"]), session=wrong)
    assert caught.value.argument == "session"


async def test_closed_session_is_rejected(server):
    async with aiohttp.ClientSession() as session:
        llm = client(server.url, session=session)
    with pytest.raises(InvalidArgument, match="is closed") as caught:
        await llm.generate("x")
    assert caught.value.argument == "session"


def test_session_of_another_loop_is_rejected(server):
    async def made():
        return aiohttp.ClientSession()

    async def used(session):
        with pytest.raises(InvalidArgument, match="another event loop"):
            await client(server.url, session=session).generate("x")

    loop = asyncio.new_event_loop()
    session = loop.run_until_complete(made())
    asyncio.run(used(session))
    loop.run_until_complete(session.close())
    loop.close()


# test doubles


class DoubledResponse(aiohttp.ClientResponse):
    """A response as aioresponses 0.7.9 makes it, with the argument that aiohttp 3.14 requires in addition."""

    def __init__(self, *args, **kwargs):
        if "stream_writer" in inspect.signature(aiohttp.ClientResponse.__init__).parameters:
            kwargs["stream_writer"] = types.SimpleNamespace(output_size=0)
        super().__init__(*args, **kwargs)


async def test_aioresponses():
    events = 'data: {"choices": [{"text": "doubled", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    url = "http://model.test/v1/completions"
    doubled = {"response_class": DoubledResponse}
    async with aiohttp.ClientSession() as session:
        with aioresponses() as doubles:
            doubles.post(url, body=events, content_type="text/event-stream", repeat=2, **doubled)
            doubles.post(url, status=404, payload={"message": "gone"}, **doubled)
            doubles.post(url, exception=aiohttp.ClientConnectionError("cut"))
            llm = client("http://model.test", session=session)
            assert await llm.generate("x") == "doubled"
            assert [chunk.text async for chunk in llm.stream_generate("x")][-1] == "doubled"
            with pytest.raises(NotFound, match="gone"):
                await llm.generate("x")
            with pytest.raises(StreamInterrupted, match="cut"):
                await llm.generate("x")
            await llm.aclose()


# our own connector


async def test_api_key_precedes_netrc(server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password p@ss\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for options in ({}, {"api_key": "k"}):
        async with client(server.url, **options) as llm:
            await llm.generate("x")
    first, second = (request.headers["authorization"] for request in server.requests)
    assert (first, second) == (BASIC, "Bearer k")


async def test_international_host_name(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    async with client("http://bücher.example") as llm:
        assert await llm.generate("x") == "ab"
    assert server.requests[0].path == "http://xn--bcher-kva.example/v1/completions"


async def test_base_url_is_not_normalized(server):
    async with client(f"{server.url}/a%2Fb/~c") as llm:
        assert await llm.generate("x") == "ab"
    assert server.requests[0].path == "/a%2Fb/~c/v1/completions"


async def test_proxy_password_is_not_in_the_traceback(monkeypatch):
    with ConnectProxy(0, status=407) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@{proxy.address}")
        async with client("https://model.test") as llm:
            with pytest.raises(ConnectError) as caught:
                await llm.generate("x")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_server_cookies_are_not_stored():
    def script(connection):
        answer = {"choices": [{"text": "a", "finish_reason": "stop"}]}
        connection.json(answer, Set_Cookie="who=alice; Path=/")

    with ScriptedServer(script) as server:
        async with client(server.url.replace("127.0.0.1", "localhost")) as llm:
            for _ in range(2):
                await llm.generate("x", stream=False)
    assert "cookie" not in server.requests[1].headers


async def test_unrequested_compression_is_decoded():
    def script(connection):
        connection.head(Content_Encoding="gzip")
        events = b'data: {"choices": [{"text": "packed", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
        connection.chunk(gzip.compress(events))
        connection.chunk()

    with ScriptedServer(script) as server:
        async with client(server.url) as llm:
            assert await llm.generate("x") == "packed"


async def test_long_prompt_is_sent_without_a_warning(server):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with client(server.url) as llm:
            assert await llm.generate("x" * (3 << 20)) == "ab"
    assert len(server.requests[0].body["prompt"]) == 3 << 20


@pytest.mark.parametrize(
    "sent",
    [
        "HTTP/1.1 200 X\r\nX-Long: " + "x" * 200_000 + "\r\n\r\n",
        "HTTP/1.1 200 X\r\n" + "X-A: b\r\n" * 100_000 + "\r\n",
        "HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 X\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "HTTP/1.1 200 X\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
        "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nx",
        "HTTP/9.9 abc\r\n\r\n",
        "\0" * 5000,
    ],
)
async def test_invalid_http_raises_an_llm_error(sent):
    def script(connection):
        connection.send(sent)
        connection.sock.close()

    with ScriptedServer(script) as server:
        async with client(server.url) as llm:
            with pytest.raises(LLMError) as caught:
                await llm.generate("x", timeout=Timeout(first_token=10))
    assert isinstance(caught.value, (StreamInterrupted, ServerError))


async def test_close_interrupts_the_wait_for_a_response():
    with ScriptedServer(lambda c: None) as server:
        llm = client(server.url)
        stream = llm.stream_generate("x")
        waiting = asyncio.ensure_future(stream.__anext__())
        while not server.requests:
            await asyncio.sleep(0.01)
        stream.close()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert await asyncio.to_thread(server.requests[0].wait_gone)
        waiting = asyncio.ensure_future(llm.generate("x"))
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        await llm.aclose()
        with pytest.raises(StreamInterrupted):
            await waiting


# processes and loops

CLOSED_LOOP = """
import asyncio, gc, sys
from lagent_llms import AsyncLMDeployClient
llm = AsyncLMDeployClient(sys.argv[1], "m")
loop = asyncio.new_event_loop()
print(loop.run_until_complete(llm.generate("x")))
loop.close()
del loop
gc.collect()
print(asyncio.run(llm.generate("x")))
"""

FORK = """
import asyncio, os, sys
from lagent_llms import AsyncLMDeployClient
llm = AsyncLMDeployClient(sys.argv[1], "m")
loop = asyncio.new_event_loop()
stream = llm.stream_generate("held")
print(loop.run_until_complete(stream.__anext__()).text, flush=True)
print(loop.run_until_complete(llm.generate("x")), flush=True)
child = os.fork()
if not child:
    print(asyncio.run(llm.generate("x")), flush=True)
    stream.close()
    sys.exit()  # finalizers run
os.waitpid(child, 0)
print(loop.run_until_complete(llm.generate("resume")), flush=True)
async def rest():
    return [chunk.text async for chunk in stream][-1]
print(loop.run_until_complete(rest()))
loop.run_until_complete(llm.aclose())
"""


def run(code, url):
    command = [sys.executable, "-c", code, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_loop_closed_before_the_client(server):
    done = run(CLOSED_LOOP, server.url)
    assert (done.stdout, done.stderr) == ("ab\nab\n", "")


def test_fork_keeps_the_parents_connections():
    resume = threading.Event()

    def script(connection):
        if connection.body["prompt"] == "held":
            connection.head()
            connection.text("a")
            assert resume.wait(60)
            connection.text("b", "stop")
            connection.event("[DONE]")
            connection.chunk()
        else:
            connection.answer("c")
            if connection.body["prompt"] == "resume":
                resume.set()

    with ScriptedServer(script) as server:
        done = run(FORK, server.url)
        assert (done.stdout, done.stderr) == ("a\nc\nc\nc\nab\n", "")
        assert server.connections == 3  # two of the parent, one of the child
