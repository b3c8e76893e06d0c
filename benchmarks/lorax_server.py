"""A minimal server of LoRAX's protocol, whose own CPU time is small compared with that of a client."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from multiprocessing.connection import Connection

__all__ = ["PACE", "running"]

#: Seconds between two tokens of a paced stream.
PACE = 0.002
_TOKEN = (
    b'data: {"token":{"id":12,"text":" word","logprob":-0.5,"special":false},'
    b'"generated_text":null,"details":null}\n\n'
)
_LAST = (
    b'data: {"token":{"id":2,"text":"</s>","logprob":-0.1,"special":true},"generated_text":" word","details":'
    b'{"finish_reason":"eos_token","prompt_tokens":9,"generated_tokens":9,"seed":null}}\n\n'
)
_WHOLE = (
    b'[{"generated_text":" word","details":{"finish_reason":"length","prompt_tokens":9,"generated_tokens":1,'
    b'"seed":null,"prefill":[],"tokens":[{"id":12,"text":" word","logprob":-0.5,"special":false}]}}]'
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0][15:]) if lengths else 0
        if len(rest) < length:
            return
        self._data = rest[length:]
        if length:
            self._answer(json.loads(rest[:length]))
        else:  # /info
            self._transport.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")

    def _answer(self, body: dict[str, object]) -> None:
        if not body["stream"]:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(_WHOLE), _WHOLE)
            )
            return
        how, count = str(body["inputs"]).split()
        if how == "burst":
            self._transport.write(_HEAD + _chunk(_TOKEN) * (int(count) - 1) + _chunk(_LAST) + b"0\r\n\r\n")
        else:
            self._transport.write(_HEAD)
            self._next(int(count))

    def _next(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left == 1:
            self._transport.write(_chunk(_LAST) + b"0\r\n\r\n")
        else:
            self._transport.write(_chunk(_TOKEN))
            asyncio.get_running_loop().call_later(PACE, self._next, left - 1)


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class running:  # noqa: N801  (used as a function)
    """Context manager that runs the server in a subprocess: ``with running() as url``."""

    def __enter__(self) -> str:
        here, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=[there], daemon=True)
        self._process.start()
        return f"http://127.0.0.1:{here.recv()}"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
