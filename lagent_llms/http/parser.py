"""Read one HTTP/1.1 response from bytes cut anywhere: its head, and what is inside its body. Pure."""

from __future__ import annotations

import re

from .chunked import ChunkedDecoder
from .messages import ResponseHead

__all__ = ["ResponseReader"]

_LONGEST_HEAD = 64 * 1024
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE_END = re.compile(r"\r?\n")
_PROTOCOL = b"HTTP/1."
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: |$)")


class ResponseReader:
    """Takes the bytes of a connection after a request was sent over it.

    Attributes:
        head: The head, None until all of it has come.
        ended: The body has ended.
        reusable: The body has ended and the connection can carry another request.
    """

    __slots__ = ("_chunks", "_keep_alive", "_left", "_received", "ended", "head", "reusable")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None
        self.ended = False
        self.reusable = False
        self._received = b""  # the beginning of the head
        self._keep_alive = False
        self._chunks: ChunkedDecoder | None = None
        self._left: int | None = None  # bytes of the body that are still to come, None when nobody said

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; gives those of the body among them.

        Raises:
            ValueError: This is no HTTP/1.1.
        """
        while self.head is None:
            self._received += data
            end = _HEAD_END.search(self._received)
            if end is None:
                if not _PROTOCOL.startswith(self._received[: len(_PROTOCOL)]):
                    raise ValueError(f"not HTTP/1.1: {self._received[:80]!r}")
                if len(self._received) > _LONGEST_HEAD:
                    raise ValueError("the head of the response does not end")
                return b""
            head, data = self._received[: end.start()], self._received[end.end() :]
            self._received = b""
            self._begin(head.decode("latin-1"))
        return self._body(data)

    def finish(self) -> None:
        """The server has closed the connection.

        Raises:
            ConnectionError: It did so too early.
        """
        if not self.ended and (self.head is None or self._chunks is not None or self._left is not None):
            raise ConnectionError("the server closed the connection")
        self.ended = True

    def _begin(self, text: str) -> None:
        first, *lines = _LINE_END.split(text)
        found = _STATUS_LINE.match(first)
        if found is None:
            raise ValueError(f"not HTTP/1.1: {first[:80]!r}")
        status, headers = int(found[2]), _headers(lines)
        if status < 200:  # only an announcement: the response itself follows
            return
        self.head = ResponseHead(status, headers)
        connection = headers.get("connection", "").lower()
        self._keep_alive = "close" not in connection if found[1] == "1" else "keep-alive" in connection
        coding = headers.get("transfer-encoding", "").lower()
        if status in (204, 304):
            self._left = 0
        elif coding == "chunked":
            self._chunks = ChunkedDecoder()
        elif coding:
            raise ValueError(f"unknown transfer coding {coding!r}")
        elif "content-length" in headers:
            self._left = _length(headers["content-length"])
        if self._left == 0:
            self._end(b"")

    def _body(self, data: bytes) -> bytes:
        if self.ended or not data:
            self.reusable = self.reusable and not data
            return b""
        if self._chunks is not None:
            inside = self._chunks.feed(data)
            if self._chunks.complete:
                self._end(self._chunks.rest)
            return inside
        if self._left is None:
            return data
        inside, rest = data[: self._left], data[self._left :]
        self._left -= len(inside)
        if not self._left:
            self._end(rest)
        return inside

    def _end(self, rest: bytes) -> None:
        self.ended = True
        self.reusable = self._keep_alive and not rest  # who says more than was asked cannot be trusted


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"not a header: {line[:80]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _length(text: str) -> int:
    lengths = {part.strip() for part in text.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()):
        raise ValueError(f"not a content length: {text[:80]!r}")
    return int(length)
