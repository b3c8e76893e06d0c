"""The floor: minimal clients, of a socket or an asyncio protocol and orjson. All costs are relative to it.

They work only with this server: they check nothing and read only the text. Connections are kept.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks.clients.contract import PROMPT

__all__ = ["FLOORS", "AsyncFloor", "Floor", "pick", "request_body"]

_PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions", "lorax": "/"}
_END = b"0\r\n\r\n"


def request_body(route: str, *, stream: bool) -> bytes:
    """Return the body of a request."""
    if route == "lorax":
        body: dict[str, Any] = {"inputs": PROMPT, "parameters": {}, "stream": stream}
    elif route == "chat":
        body = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
    else:
        body = {"model": "m", "prompt": PROMPT, "stream": stream}
    return json.dumps(body).encode()


#: Route -> functions that return the text of an event, and the text of a whole answer.
_PICK: dict[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "completions": (lambda item: item["choices"][0]["text"], lambda item: item["choices"][0]["text"]),
    "chat": (
        lambda item: item["choices"][0]["delta"]["content"],
        lambda item: item["choices"][0]["message"]["content"],
    ),
    "lorax": (
        lambda item: "" if item["token"]["special"] else item["token"]["text"],
        lambda item: item[0]["generated_text"],
    ),
}


def pick(route: str) -> tuple[Callable[[Any], str], Callable[[Any], str]]:
    """Return two functions: the text of an event, and the text of a whole answer."""
    return _PICK[route]


def _requests(url: str, route: str) -> tuple[str, int, bytes, bytes]:
    parts = urlsplit(url)
    found = []
    for stream in (True, False):
        body = request_body(route, stream=stream)
        found.append(
            f"POST {parts.path}{_PATHS[route]} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
    return parts.hostname or "", parts.port or 80, found[0], found[1]


class _Events:
    """Parser of a stream whose bytes may be split anywhere."""

    def __init__(self, text: Callable[[Any], str], take: Callable[[str], object]) -> None:
        self._text, self._take = text, take
        self._rest = b""

    def feed(self, data: bytes) -> bool:
        """Call `take` with the texts in `data`; return whether the stream has ended."""
        *events, self._rest = (self._rest + data).split(b"\n\n\r\n")
        for event in events:
            start = event.find(b"{")
            if start >= 0 and (text := self._text(orjson.loads(event[start:]))):
                self._take(text)
        return self._rest == _END


class Floor:
    """A socket and orjson."""

    def __init__(self, url: str, route: str) -> None:
        host, port, self._streamed, self._whole = _requests(url, route)
        self._of_event, self._of_answer = pick(route)
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def stream(self, take: Callable[[str], object]) -> None:
        """See `SyncClient`."""
        self._socket.sendall(self._streamed)
        events = _Events(self._of_event, take)
        receive = self._socket.recv
        while not events.feed(receive(1 << 16)):
            pass

    def answer(self) -> str:
        """See `SyncClient`."""
        self._socket.sendall(self._whole)
        return self._of_answer(orjson.loads(self._socket.recv(1 << 16).partition(b"\r\n\r\n")[2]))

    def close(self) -> None:
        """See `SyncClient`."""
        self._socket.close()


class _Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.feed: Callable[[bytes], bool] = lambda data: True
        self.done: asyncio.Future[None] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.feed(data) and self.done is not None:
            self.done.set_result(None)


class AsyncFloor:
    """An asyncio protocol and orjson."""

    def __init__(self, url: str, route: str) -> None:
        self._host, self._port, self._streamed, self._whole = _requests(url, route)
        self._of_event, self._of_answer = pick(route)
        self._idle: list[_Protocol] = []

    async def stream(self, take: Callable[[str], object]) -> None:
        """See `AsyncClient`."""
        await self._exchange(self._streamed, _Events(self._of_event, take).feed)

    async def answer(self) -> str:
        """See `AsyncClient`."""
        parts: list[bytes] = []
        await self._exchange(self._whole, lambda data: parts.append(data) is None)
        return self._of_answer(orjson.loads(b"".join(parts).partition(b"\r\n\r\n")[2]))

    async def _exchange(self, request: bytes, feed: Callable[[bytes], bool]) -> None:
        loop = asyncio.get_running_loop()
        if self._idle:
            protocol = self._idle.pop()
        else:
            _, protocol = await loop.create_connection(_Protocol, self._host, self._port)
        protocol.feed, protocol.done = feed, loop.create_future()
        protocol.transport.write(request)
        await protocol.done
        self._idle.append(protocol)

    async def close(self) -> None:
        """See `AsyncClient`."""
        for protocol in self._idle:
            protocol.transport.close()


FLOORS = {"sync": Floor, "async": AsyncFloor}
