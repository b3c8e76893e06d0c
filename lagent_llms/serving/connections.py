"""Limits on connections, before there is a request: their number, slow headers, clients that do not read."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .error_responses import error_body

__all__ = ["ConnectionLimits", "limited_protocol"]


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on the connections of one server.

    Attributes:
        max_connections: Most open connections; further ones get 503 and are closed.
        header_seconds: Longest time for the head of a request to arrive, in seconds.
        max_header: Largest head of a request that arrives in several parts, in bytes.
        write_seconds: Longest time that a client may read nothing while it is sent a response, in seconds.
        keep_alive_seconds: Longest time that a connection stays open between two requests, in seconds.
    """

    max_connections: int = 512
    header_seconds: float = 10.0
    max_header: int = 64 << 10
    write_seconds: float = 30.0
    keep_alive_seconds: int = 5


def limited_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Uvicorn's protocol with `limits`, for its option ``http``."""
    return type("LimitedProtocol", (_LimitedProtocol,), {"limits": limits})


class _LimitedProtocol(HttpToolsProtocol):
    """One connection.

    The timers run only while a head is incomplete, or the client does not read: they cost a stream nothing.
    """

    limits: ClassVar[ConnectionLimits]
    _header_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_head = True  # the next bytes belong to the head of a request
    _head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        most = self.limits.max_connections
        if len(self.connections) > most:
            self._refuse(503, f"too many connections: {most} are open already", "too_many_connections")
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        self._cancel_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_size += len(data)
            if self._header_timer is None:
                self._expect_head()
        super().data_received(data)
        if self._in_head and self._head_size > self.limits.max_header:
            self._refuse(
                431,
                f"the headers are too large: allowed are {self.limits.max_header} bytes",
                "headers_too_large",
            )

    def on_headers_complete(self) -> None:
        self._cancel_header_timer()
        self._in_head, self._head_size = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._expect_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._cancel_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP."""
        self._refuse(400, msg, "invalid_http")

    def _expect_head(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._head_size:
            seconds = self.limits.header_seconds
            self._refuse(408, f"the headers did not arrive within {seconds:g} s", "header_timeout")
        else:
            self.transport.close()

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _expect_reading(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.limits.write_seconds, self._reader_is_late)

    def _reader_is_late(self) -> None:
        self._write_timer = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _refuse(self, status: int, message: str, code: str) -> None:
        """Answer without the application, and close the connection."""
        if self.transport.is_closing():
            return
        body = json.dumps(error_body(status, message, code)).encode()
        headers: dict[str, Any] = {
            "content-type": "application/json",
            "content-length": len(body),
            "connection": "close",
            **({"retry-after": 1} if status == 503 else {}),
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self._expect_reading()
        self.transport.close()
