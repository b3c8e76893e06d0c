"""Split a byte stream into server-sent events, incrementally. Pure."""

from __future__ import annotations

from ..errors import StreamInterrupted
from .limits import DEFAULT_LIMITS

__all__ = ["EventSplitter"]

_BOM = b"\xef\xbb\xbf"
#: How an event stream begins, besides with an empty line; 'error' is not standard.
_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")
#: First bytes of JSON, of a page, of gzip and of zstd: no event stream begins with them.
_DOCUMENT = b'{["<\x1f('
#: Names of events that only keep the connection alive.
_PINGS = frozenset({b"ping", b"heartbeat", b"keepalive", b"keep-alive"})


class EventSplitter:
    """Splitter of a byte stream into the data of its events.

    Follows the event stream format of the HTML standard: lines end in LF, CR or CRLF, ``data`` lines of one
    event are joined with LF, comments (keep-alives), pings and other fields are ignored. Servers label bodies
    wrongly, so their first bytes decide whether they are an event stream; any other body is one document.
    Within a stream, text that is no event (the page of a proxy) is treated like data.

    Args:
        labelled: Whether the Content-Type is that of an event stream; decides where the first bytes do not.
        max_size: Maximum size of one event, in bytes.

    Attributes:
        whole: Whether the body is a document; `finish` returns it.
    """

    __slots__ = ("_after_cr", "_at_start", "_labelled", "_max_size", "_tail", "whole")

    def __init__(self, labelled: bool = True, max_size: int = DEFAULT_LIMITS.event_bytes) -> None:
        self._labelled, self._max_size = labelled, max_size
        self._tail = bytearray()
        self._at_start = True  # for a document, up to its end
        self._after_cr = False
        self.whole = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes.

        Returns:
            The data of each event they complete, without the field name.

        Raises:
            StreamInterrupted: An event exceeds the maximum size.
        """
        if self._at_start and not (data := self._begin(data)):
            return []
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if not self._tail:
            if data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n"):
                return [data[6:-2]]  # one event, as a server sends it token by token
            if data[-2:] != b"\n\n" and b"\n\n" not in data:
                self._tail += data
                return self._incomplete()
            blocks = data.split(b"\n\n")
        else:
            searched = len(self._tail) - 1
            self._tail += data
            if self._tail.find(b"\n\n", searched) < 0:
                return self._incomplete()
            blocks = bytes(self._tail).split(b"\n\n")
        self._tail = bytearray(blocks.pop())
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif (event := _data(block)) is not None:
                events.append(event)
        return events

    def finish(self) -> list[bytes]:
        """Note the end of the body.

        Returns:
            The document, or the data after the last empty line. Lines that each hold an event's data are
            returned one by one: some servers do not send empty lines.
        """
        rest, self._tail = bytes(self._tail), bytearray()
        if self._at_start:
            self.whole = self.whole or not self._labelled or bool(rest)
            return [rest] if self.whole else []
        if (event := _data(rest)) is None:
            return []
        lines = event.split(b"\n")
        return lines if all(line[:1] in (b"{", b"[") for line in lines) else [event]

    def _incomplete(self) -> list[bytes]:
        if len(self._tail) > self._max_size:
            raise StreamInterrupted(
                f"an event of the stream exceeds {self._max_size} bytes; limits.event_bytes allows more"
            )
        return []

    def _begin(self, data: bytes) -> bytes:
        """Return the first bytes of an event stream; keep bytes that are no such stream, or may be none."""
        self._tail += data
        if self.whole:
            return b""
        start = bytes(self._tail[:128]).removeprefix(_BOM).lstrip()
        if not start and len(self._tail) > 3:
            self._tail = self._tail.lstrip()  # blanks that keep the connection alive
            start = bytes(self._tail[:128])
        if not start or _BOM.startswith(start):
            return b""
        self.whole = start[0] in _DOCUMENT
        if not (self.whole or self._labelled or start.startswith(_FIELDS)):
            if any(field.startswith(start) for field in _FIELDS):
                return b""
            self.whole = True
        if self.whole:
            return b""
        data, self._tail, self._at_start = bytes(self._tail), bytearray(), False
        return data.removeprefix(_BOM)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Replace CR and CRLF by LF. A CR ends its line at once; an LF in the next bytes is skipped."""
        if self._after_cr and data.startswith(b"\n"):
            self._after_cr = False
            data = data[1:]
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes | None:
    """Join the ``data`` lines of one event; None if it has none, or is a ping."""
    lines = []
    for line in block.split(b"\n"):
        name, colon, value = line.removeprefix(_BOM).partition(b":")
        value = value.removeprefix(b" ")
        if name in (b"data", b"error"):
            lines.append(value if colon else b"")
        elif name == b"event" and value.strip() in _PINGS:
            return None
    if not lines and (block.lstrip()[:1] in (b"{", b"<") or b" " in block.partition(b":")[0].strip()):
        return block  # JSON, a page, or text
    return b"\n".join(lines) if lines else None
