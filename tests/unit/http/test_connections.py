"""Connections of both HTTP clients: TLS, tunnels, reuse, slow readers, closing."""

import asyncio
import subprocess
import sys
import threading

import pytest

from lagent_llms import AsyncLMDeployClient, ConfigError, ConnectError, LMDeployClient, StreamInterrupted
from lagent_llms.http.proxy import find_route
from tests.scripted_server import ScriptedServer
from tests.unit.http.connect_proxy import ConnectProxy


@pytest.fixture
def secure(certificate):
    with ScriptedServer(lambda c: c.answer("sa", "fe"), tls=certificate[1]) as server:
        yield server


def port_of(server):
    return int(server.url.rpartition(":")[2])


# TLS


@pytest.mark.parametrize("checked", [True, False])
def test_tls_connection_is_reused(connect, secure, certificate, checked):
    client, _ = connect(None, url=secure.url, verify=str(certificate[0]) if checked else False)
    for _ in range(3):
        assert client.generate("x") == "safe"
    assert secure.connections == 1


def test_untrusted_certificate(connect, secure):
    client, _ = connect(None, url=secure.url)
    with pytest.raises(ConnectError, match="(?i)certificate"):
        client.generate("x")


# proxies


def test_tunnel(connect, secure, certificate, monkeypatch):
    with ConnectProxy(port_of(secure)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:p%40ss@{proxy.address}")
        client, _ = connect(None, url="https://model.test:8443", verify=str(certificate[0]))
        for _ in range(2):
            assert client.generate("x") == "safe"
        (head,) = proxy.heads
        assert head.startswith("CONNECT model.test:8443 HTTP/1.")
        assert "proxy-authorization: basic bwu6cebzcw==" in head.lower()
    assert secure.requests[0].path == "/v1/completions"
    assert secure.requests[0].headers["host"] == "model.test:8443"
    assert "proxy-authorization" not in secure.requests[0].headers


def test_tunnel_through_a_tls_proxy(secure, certificate, monkeypatch):
    secure.script = lambda c: c.answer("safe") if c.body["prompt"] == "x" else begun(c)
    with ConnectProxy(port_of(secure), tls=certificate[1]) as proxy:
        monkeypatch.setenv("https_proxy", f"https://me:p%40ss@{proxy.address}")
        with LMDeployClient("https://model.test", "m", verify=certificate[0], max_retries=0) as llm:
            for _ in range(2):
                assert llm.generate("x") == "safe"
            (head,) = proxy.heads
            assert "proxy-authorization: basic bwu6cebzcw==" in head.lower()
            stream = llm.stream_generate("y")
            assert next(stream).text == "a"
            found = []
            reader = threading.Thread(target=lambda: found.extend(stream))
            reader.start()
            stream.close()
            reader.join(30)
            assert not reader.is_alive()
            assert found == []


def test_certificate_in_a_tunnel_is_checked_against_the_server_name(
    connect, secure, certificate, monkeypatch
):
    with ConnectProxy(port_of(secure)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
        client, _ = connect(None, url="https://other.test", verify=str(certificate[0]))
        with pytest.raises(ConnectError, match=r"other\.test"):
            client.generate("x")


def test_proxy_refuses_the_tunnel(connect, monkeypatch):
    with ConnectProxy(0, status=407) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
        client, _ = connect(None, url="https://model.test")
        with pytest.raises(ConnectError, match="407"):
            client.generate("x")


def test_tls_proxy(connect, certificate, monkeypatch):
    with ScriptedServer(lambda c: c.answer("by proxy"), tls=certificate[1]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        client, _ = connect(None, url="http://model.test", verify=str(certificate[0]))
        assert client.generate("x") == "by proxy"
        assert proxy.requests[0].path == "http://model.test/v1/completions"


def test_find_route():
    route = find_route("http://[::1]:8000/base")
    assert (route.host, route.port, route.tls, route.headers) == ("::1", 8000, False, {"Host": "[::1]:8000"})
    assert route.base == "/base"
    route = find_route("https://model.test", "http://proxy")
    assert (route.host, route.port, route.tls, route.server) == ("proxy", 80, False, "model.test")
    assert route.tunnel
    assert route.server_port == 443
    with pytest.raises(ConfigError, match="socks5"):
        find_route("http://model.test", "socks5://proxy:1080")


# reuse


def test_connection_close_header_prevents_reuse(connect):
    whole = {"choices": [{"text": "a", "finish_reason": "stop"}]}
    client, server = connect(lambda c: c.json(whole, Connection="close"))
    for _ in range(2):
        assert client.generate("x", stream=False) == "a"
    assert server.connections == 2


def test_interim_response_is_skipped(connect):
    def script(connection):
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        connection.answer("a")

    client, _ = connect(script)
    assert client.generate("x") == "a"


async def test_closed_idle_connection_is_not_reused():
    closed = threading.Event()

    def script(connection):
        connection.answer("a")
        connection.sock.close()
        closed.set()

    with ScriptedServer(script) as server:
        async with AsyncLMDeployClient(server.url, "m", max_retries=0) as llm:
            assert await llm.generate("x") == "a"
            assert closed.wait(30)  # blocks the loop: it cannot notice the close
            closed.clear()
            assert await llm.generate("x") == "a"
            assert await asyncio.to_thread(closed.wait, 30)  # the loop runs and can notice it
            assert await llm.generate("x") == "a"
    assert server.connections == 3


@pytest.mark.parametrize("secured", [False, True])
def test_forked_child_opens_its_own_connections(certificate, secured):
    code = """
import os, sys
from lagent_llms import LMDeployClient
llm = LMDeployClient(sys.argv[1], "m", verify=sys.argv[2], max_retries=0)
assert llm.generate("x") == "a"
stream = llm.stream_generate("x")
next(stream)
if (child := os.fork()) == 0:
    stream.close()
    assert llm.generate("x") == "a"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert [chunk.text for chunk in stream][-1] == "a"
assert llm.generate("x") == "a"
"""
    with ScriptedServer(lambda c: c.answer("a"), tls=certificate[1] if secured else None) as server:
        command = [sys.executable, "-W", "error", "-c", code, server.url, str(certificate[0])]
        subprocess.run(command, timeout=60, check=True)
    assert server.connections == 2


# slow readers


async def test_slow_reader_applies_backpressure():
    sent = [0]

    def script(connection):
        connection.head()
        connection.text("a")
        for _ in range(600):
            connection.chunk(b": %s\n\n" % (b"x" * 100_000))
            sent[0] += 1
        connection.text("b", "stop")
        connection.event("[DONE]")
        connection.chunk()

    with ScriptedServer(script) as server:
        async with AsyncLMDeployClient(server.url, "m") as llm:
            stream = llm.stream_generate("x")
            assert (await stream.__anext__()).text == "a"
            before = -1
            while sent[0] > before:  # until the server is blocked
                before = sent[0]
                await asyncio.sleep(0.3)
            assert before < 300
            assert [chunk.text async for chunk in stream][-1] == "ab"
    assert sent[0] == 600


# closing


def begun(connection):
    connection.head()
    connection.text("a")


async def test_closing_ends_streams_and_idle_connections():
    with ScriptedServer(lambda c: c.answer("a") if c.body["prompt"] == "whole" else begun(c)) as server:
        llm = AsyncLMDeployClient(server.url, "m", max_retries=0)
        stream = llm.stream_generate("x")
        await stream.__anext__()
        assert await llm.generate("whole") == "a"
        waiting = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        await llm.aclose()
        with pytest.raises(StreamInterrupted):
            await waiting
        assert server.connections == 2
        assert await asyncio.to_thread(server.requests[0].wait_gone)


async def test_a_stream_may_be_closed_from_another_thread():
    with ScriptedServer(begun) as server:
        async with AsyncLMDeployClient(server.url, "m") as llm:
            stream = llm.stream_generate("x")
            await stream.__anext__()
            thread = threading.Thread(target=stream.close)
            thread.start()
            assert await asyncio.to_thread(server.requests[0].wait_gone)
            thread.join()


@pytest.mark.parametrize("end", ["await llm.aclose()", "pass"])
def test_no_connection_is_left_open(certificate, end):
    code = f"""
import asyncio, gc, sys
from lagent_llms import AsyncLMDeployClient
async def main():
    global llm, stream
    llm = AsyncLMDeployClient(sys.argv[1], "m", verify=sys.argv[2])
    stream = llm.stream_generate("x")
    await stream.__anext__()
    print(await llm.generate("x", stop_words="b"))
    {end}
asyncio.run(main())
del llm, stream
gc.collect()
"""
    with ScriptedServer(lambda c: c.answer("a", "b", "c"), tls=certificate[1]) as server:
        command = [sys.executable, "-Wd", "-c", code, server.url, str(certificate[0])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("a\n", "")
