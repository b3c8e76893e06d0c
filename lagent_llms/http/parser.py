"""Parse one HTTP/1.1 response incrementally with llhttp (`httptools`), within our limits."""

from __future__ import annotations

from httptools import HttpParserCallbackError, HttpParserError, HttpResponseParser

from .endpoints import USE_HTTPS
from .limits import DEFAULT_LIMITS, Limits
from .messages import ResponseHead

__all__ = ["ResponseReader"]


class ResponseReader:
    """Parser for the bytes that arrive on a connection after a request was sent.

    The methods named ``on_...`` are the parser's callbacks.

    Args:
        limits: The most that the server may send.

    Attributes:
        head: The head of the response, None until all of it has arrived.
        ended: Whether the body has ended.
        reusable: Whether the body has ended and the connection can carry another request.
    """

    __slots__ = (
        "_header_count",
        "_header_size",
        "_headers",
        "_interim",
        "_keep_alive",
        "_limits",
        "_overhead",
        "_parser",
        "_parts",
        "_until_close",
        "ended",
        "head",
        "on_body",
        "reusable",
    )

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self._limits = limits
        self.head: ResponseHead | None = None
        self.ended = False
        self.reusable = False
        self._headers: dict[str, str] = {}
        self._header_count = self._header_size = 0  # number and bytes of the headers
        self._interim = 0  # responses with status 1xx
        self._overhead = 0  # bytes that arrived since the last piece of the body
        self._keep_alive = self._until_close = False
        self._parts: list[bytes] = []
        self.on_body = self._parts.append
        # A reference cycle, until the response has ended.
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # RFC 9112 2.2 allows it

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes from the connection.

        Returns:
            The bytes of the body among them.

        Raises:
            ValueError: They are not HTTP/1.1, or exceed a limit.
        """
        if self._parser is None:
            self.reusable = self.reusable and not data
            return b""
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self.ended:
                reason: object = error.__context__ if isinstance(error, HttpParserCallbackError) else error
                if self.head is None and data.startswith(b"\x15\x03"):  # an alert of TLS
                    reason = USE_HTTPS
                raise ValueError(f"not valid HTTP/1.1: {reason}") from error
            self.reusable = False  # bytes follow the response
        if self.ended:
            self._parser = None
        parts = self._parts
        if not parts:
            self._overhead += len(data)
            if self._overhead > self._limits.head_bytes and not self.ended:
                raise ValueError(f"more than {self._limits.head_bytes} bytes of head or framing")
            return b""
        if self.head is None:
            raise ValueError("an interim response with a body")
        self._overhead = 0
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def finish(self) -> None:
        """Note that the server has closed the connection.

        Raises:
            ConnectionError: The response is not complete.
        """
        if not self.ended and not self._until_close:
            raise ConnectionError("the server closed the connection")
        self.ended = True
        self.reusable = False
        self._parser = None

    def on_message_begin(self) -> None:
        """Raise ValueError for a second response."""
        if self.ended:
            raise ValueError("more than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; count a trailer without storing it."""
        self._header_count += 1
        self._header_size += len(name) + len(value)
        if self._header_count > self._limits.headers or self._header_size > self._limits.head_bytes:
            limits = self._limits
            raise ValueError(f"more than {limits.headers} headers or {limits.head_bytes} bytes of them")
        if self.head is None:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """Make the head; discard the headers of an interim response."""
        assert self._parser is not None
        status, headers = self._parser.get_status_code(), self._headers
        if self._parser.get_http_version() not in ("1.0", "1.1") or status < 100:
            raise ValueError(f"HTTP/{self._parser.get_http_version()} with status {status}")
        if self._parts:
            raise ValueError("an interim response with a body")
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > self._limits.interim_responses:
                raise ValueError(f"unexpected status {status}")
            self._headers = {}
            return
        coding = headers.get("transfer-encoding", "").lower()
        if coding not in ("", "chunked"):
            raise ValueError(f"unknown transfer coding {coding[:80]!r}")
        self.head = ResponseHead(status, headers)
        self._keep_alive = self._parser.should_keep_alive()
        self._until_close = not coding and "content-length" not in headers

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        if self.head is not None:
            self.ended = True
            self.reusable = self._keep_alive
