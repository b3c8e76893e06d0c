"""A server that is faster than every client: it renders each answer once and only sends it afterwards.

    python -m benchmarks.clients.server      (prints its port; ends with its standard input)

The path selects the answer: /CHUNKS/PAUSE_US/ROUTE. With a pause, all streams of this pause get their next
event at the same tick, like streams of one batch; without, all events are sent at once. /cpu returns the CPU
seconds the server has used. One thread, one epoll.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from benchmarks.clients.contract import text, word

__all__ = ["render"]

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n%s\r\n\r\n"
_CREATED = 1_700_000_000


def _completions(delta: str, finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "text": delta, "logprobs": None, "finish_reason": finish, "gen_tokens": None}
    return {"id": "1", "object": "text_completion", "created": _CREATED, "model": "m", "choices": [choice]}


def _chat(delta: str, finish: str | None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": delta},
        "logprobs": None,
        "finish_reason": finish,
    }
    head = {"id": "1", "object": "chat.completion.chunk", "created": _CREATED, "model": "m"}
    return {**head, "choices": [choice]}


def _lorax(delta: str, finish: str | None) -> dict[str, Any]:
    token = {"id": 42, "text": delta, "logprob": -0.25, "special": finish is not None}
    details = {"finish_reason": "eos_token", "prompt_tokens": 5, "generated_tokens": 9, "seed": None}
    return {"token": token, "generated_text": finish, "details": details if finish else None}


def _usage(chunks: int) -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": chunks, "total_tokens": 5 + chunks}


def _whole(route: str, chunks: int) -> Any:
    if route == "lorax":
        details = {"finish_reason": "eos_token", "prompt_tokens": 5, "generated_tokens": chunks}
        return [{"generated_text": text(chunks), "details": {**details, "prefill": [], "tokens": []}}]
    answer = _completions(text(chunks), "stop") if route == "completions" else _chat("", "stop")
    if route == "chat":
        answer["object"] = "chat.completion"
        answer["choices"][0]["message"] = {"role": "assistant", "content": text(chunks)}
        del answer["choices"][0]["delta"]
    return {**answer, "usage": _usage(chunks)}


_EVENTS: dict[str, Callable[[str, str | None], dict[str, Any]]] = {
    "completions": _completions,
    "chat": _chat,
    "lorax": _lorax,
}


def _event(item: Any) -> bytes:
    data = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


@cache
def render(route: str, chunks: int, *, stream: bool, usage: bool) -> list[bytes]:
    """Return the response, split as a server sends it: the head, one event per chunk, the end."""
    if not stream:
        body = json.dumps(_whole(route, chunks), ensure_ascii=False).encode()
        return [_HEAD % (b"application/json", b"content-length: %d" % len(body)) + body]
    make = _EVENTS[route]
    end = [_event(make("</s>" if route == "lorax" else "", text(chunks) if route == "lorax" else "stop"))]
    if usage:
        end.append(_event({**make("", None), "choices": [], "usage": _usage(chunks)}))
    if route != "lorax":
        end.append(_event("[DONE]"))
    head = _HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
    events = [_event(make(word(index), None)) for index in range(chunks)]
    return [head, *events, b"".join(end) + b"0\r\n\r\n"]


@cache
def _joined(route: str, chunks: int, stream: bool, usage: bool) -> bytes:
    return b"".join(render(route, chunks, stream=stream, usage=usage))


def _route(path: str) -> str:
    if path.endswith("/chat/completions"):
        return "chat"
    return "completions" if path.endswith("/completions") else "lorax"


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.unsent = b""

    def request(self) -> tuple[str, bytes] | None:
        """Return path and body of the request; None while it is incomplete."""
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        at = head.lower().find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at > 0 else 0
        if len(body) < length:
            return None
        self.received = b""
        return head.split(b" ", 2)[1].decode(), body

    def send(self, data: bytes) -> bool:
        """Send without blocking; return whether all data is sent."""
        if self.unsent:
            self.unsent += data
            return False
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        self.unsent = data[sent:]
        return not self.unsent


class _Server:
    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.poll.register(sys.stdin, select.EPOLLIN)
        self.connections: dict[int, _Connection] = {}
        #: pause in seconds -> time of the next tick, and the remaining events of each connection
        self.ticks: dict[float, tuple[float, dict[_Connection, Any]]] = {}

    def run(self) -> None:
        while True:
            for number, events in self.poll.poll(0 if self.ticks else None):
                if number == self.listener.fileno():
                    self._accept()
                elif number == sys.stdin.fileno():
                    return
                else:
                    self._serve(self.connections[number], events)
            if self.ticks:
                self._tick()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections[sock.fileno()] = _Connection(sock)
            self.poll.register(sock, select.EPOLLIN)

    def _serve(self, connection: _Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            unsent, connection.unsent = connection.unsent, b""
            if connection.send(unsent):
                self.poll.modify(connection.sock, select.EPOLLIN)
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = connection.sock.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received += data
        if (request := connection.request()) is not None:
            self._answer(connection, *request)

    def _answer(self, connection: _Connection, path: str, body: bytes) -> None:
        if path == "/cpu":
            data = b"%.6f" % time.process_time()
            self._send(connection, _HEAD % (b"text/plain", b"content-length: %d" % len(data)) + data)
            return
        _, chunks, pause, *_ = path.split("/")
        stream = b'"stream":true' in body or b'"stream": true' in body
        what = (_route(path), int(chunks), stream, b"include_usage" in body)
        if not stream or pause == "0":
            self._send(connection, _joined(*what))
            return
        parts = render(what[0], what[1], stream=True, usage=what[3])
        seconds = int(pause) / 1e6
        _, waiting = self.ticks.setdefault(seconds, (time.perf_counter() + seconds, {}))
        self._send(connection, parts[0])
        waiting[connection] = iter(parts[1:])

    def _send(self, connection: _Connection, data: bytes) -> None:
        try:
            if not connection.send(data):
                self.poll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._drop(connection)

    def _tick(self) -> None:
        """Send the events that are due; sleep briefly if none is due soon."""
        now = time.perf_counter()
        for pause, (due, waiting) in list(self.ticks.items()):
            if due > now:
                continue
            for connection, parts in list(waiting.items()):
                if (part := next(parts, None)) is None:
                    waiting.pop(connection, None)
                else:
                    self._send(connection, part)
            if waiting:
                self.ticks[pause] = (max(due + pause, now), waiting)
            else:
                del self.ticks[pause]
        if self.ticks:
            wait = min(due for due, _ in self.ticks.values()) - time.perf_counter()
            if wait > 1e-4:
                time.sleep(min(wait / 2, 1e-3))

    def _drop(self, connection: _Connection) -> None:
        if self.connections.pop(connection.sock.fileno(), None) is not None:
            self.poll.unregister(connection.sock)
            connection.sock.close()
        for _, waiting in self.ticks.values():
            waiting.pop(connection, None)


if __name__ == "__main__":
    server = _Server()
    print(server.listener.getsockname()[1], flush=True)
    server.run()
