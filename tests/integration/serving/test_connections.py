"""Connections: slow or endless headers, too many of them, clients that do not read."""

import asyncio
import socket
import threading
from urllib.parse import urlsplit

import pytest

from lagent_llms import AsyncJAXPipeline
from lagent_llms.serving.app import openai_app
from lagent_llms.serving.connections import ConnectionLimits
from lagent_llms.serving.host import Host

from .test_openai_api import ask, chat

LIMITS = ConnectionLimits(max_connections=6, header_seconds=0.5, write_seconds=0.5, max_header=8000)


@pytest.fixture(scope="module")
def strict(engine):
    app = openai_app(AsyncJAXPipeline(engine=engine, temperature=0), "embedded")
    with Host(app, connections=LIMITS) as host:
        yield host


def connected(host):
    return socket.create_connection((urlsplit(host.url).hostname, urlsplit(host.url).port), timeout=60)


def read_all(connection):
    """All bytes until the server closes the connection."""
    found = b""
    try:
        while data := connection.recv(1 << 16):
            found += data
    except ConnectionResetError:
        pass
    return found


GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


def test_slow_headers_are_ended(strict):
    with connected(strict) as connection:
        connection.sendall(GET + b"X: ")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code": "header_timeout"' in answer
    assert ask(strict, "/health")[0] == 200


def test_a_silent_connection_is_closed(strict):
    with connected(strict) as connection:
        assert read_all(connection) == b""


def test_slow_headers_of_a_second_request_are_ended(strict):
    with connected(strict) as connection:
        connection.sendall(GET + b"\r\n")
        assert b" 200 " in connection.recv(1000)
        connection.sendall(b"GET /hea")
        assert b"HTTP/1.1 408 " in read_all(connection)


def test_headers_without_end_are_refused(strict):
    with connected(strict) as connection:
        answer = b""
        try:
            connection.sendall(GET)
            for number in range(2000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""  # a reset may lose the response
    assert ask(strict, "/health")[0] == 200


def test_too_many_connections(strict, wait_until):
    held = [connected(strict) for _ in range(LIMITS.max_connections)]
    try:
        for connection in held:  # each has sent a whole request: no header timeout ends it
            connection.sendall(GET + b"\r\n")
            assert b" 200 " in connection.recv(1000)
        with connected(strict) as one_more:
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert b'"code": "too_many_connections"' in answer
    finally:
        for connection in held:
            connection.close()

    def answers():
        try:
            return ask(strict, "/health")[0] == 200
        except (OSError, ValueError):
            return False

    wait_until(answers)


def test_bytes_that_are_not_http_get_the_error_format(strict):
    with connected(strict) as connection:
        connection.sendall(b"hello\r\n\r\n")
        assert b'"code": "invalid_http"' in read_all(connection)


def test_a_websocket_is_not_opened(strict):
    with connected(strict) as connection:
        connection.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " not in read_all(connection).split(b"\r\n")[0]
    assert chat(strict)[0] == 200


def test_a_client_that_never_reads_is_disconnected():
    ended = threading.Event()

    async def endless(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        assert gone.result()["type"] == "http.disconnect"
        ended.set()

    with Host(endless, connections=LIMITS) as host, connected(host) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert ended.wait(60)
