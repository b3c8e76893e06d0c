"""An HTTP server that answers every request with given bytes, for answers that real servers rarely send."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

__all__ = ["DONE", "FaultyServer", "chunk", "delta", "event", "response"]

_MODELS = b'{"object": "list", "data": [{"id": "m"}]}'


class FaultyServer:
    """A server at `url` until the context ends.

    Args:
        answer: What it sends for each POST before it closes the connection, part by part.
        first: What it sends for the first POSTs instead, one after the other.

    Attributes:
        url: Its base URL.
    """

    def __init__(self, answer: Iterable[bytes], first: Iterable[bytes] = ()) -> None:
        self._answer = list(answer)
        self._first = deque(first)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            method, length = reader.readline().partition(b" ")[0], 0
            while (line := reader.readline()).strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            reader.read(length)
            if method != b"POST":
                parts = [response(_MODELS)]
            else:
                parts = [self._first.popleft()] if self._first else self._answer
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
            reader.read()  # until the client has closed it: a reset would discard what it has not read


def response(
    body: bytes = b"", content_type: str | None = "application/json", *, status: int = 200, headers: str = ""
) -> bytes:
    """Return a response with its body; without one, the head of a response that ends with the connection."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close", *filter(None, headers.split("\n"))]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def event(data: Any) -> bytes:
    """Return a server-sent event with `data`, as JSON unless it is bytes."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def delta(text: str | None = None, finish_reason: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a chunk of /v1/chat/completions; `fields` are further fields of its delta."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **fields}, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice]}


def chunk(text: str | None = None, finish_reason: str | None = None, **fields: Any) -> bytes:
    """Return the event of a `delta`."""
    return event(delta(text, finish_reason, **fields))


DONE = chunk(None, "stop") + event(b"[DONE]")
