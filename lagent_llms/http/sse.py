"""Split a byte stream into server-sent events, incrementally. Pure."""

from __future__ import annotations

from ..errors import StreamInterrupted
from .limits import MAX_EVENT_SIZE

__all__ = ["EventSplitter"]

_BOM = b"\xef\xbb\xbf"


class EventSplitter:
    """Splitter of a byte stream into the data of its events.

    Follows the event stream format of the HTML standard: lines end in LF, CR or CRLF, ``data`` lines of one
    event are joined with LF, comments (keep-alives) and other fields are ignored, and an event that no empty
    line ends is dropped.
    """

    __slots__ = ("_at_start", "_pending_cr", "_tail")

    def __init__(self) -> None:
        self._tail = bytearray()
        self._at_start = True
        self._pending_cr = False

    @property
    def rest(self) -> bytes:
        """The bytes after the last complete event."""
        return bytes(self._tail)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes.

        Returns:
            The data of each event they complete, without the field name.

        Raises:
            StreamInterrupted: An event exceeds 64 MiB.
        """
        if self._at_start:
            data = self._without_bom(data)
        if self._pending_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        if not self._tail:
            if data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2 and data.endswith(b"\n\n"):
                return [data[6:-2]]  # one event, as a server sends it token by token
            if data[-2:] != b"\n\n" and b"\n\n" not in data:
                self._tail += data
                return []
            blocks = data.split(b"\n\n")
        else:
            searched = len(self._tail) - 1
            self._tail += data
            if self._tail.find(b"\n\n", searched) < 0:
                if len(self._tail) > MAX_EVENT_SIZE:
                    raise StreamInterrupted(f"an event of the stream exceeds {MAX_EVENT_SIZE} bytes")
                return []
            blocks = bytes(self._tail).split(b"\n\n")
        self._tail = bytearray(blocks.pop())
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(block[6:])
            elif (event := _data(block)) is not None:
                events.append(event)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        data, self._tail = bytes(self._tail + data), bytearray()
        if _BOM.startswith(data):  # may be the start of a byte order mark
            self._tail += data
            return b""
        self._at_start = False
        return data.removeprefix(_BOM)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Replace CR and CRLF by LF; a CR at the end is held until the next byte is known."""
        if self._pending_cr:
            data = b"\r" + data
        self._pending_cr = data.endswith(b"\r")
        if self._pending_cr:
            data = data[:-1]
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _data(block: bytes) -> bytes | None:
    """Join the ``data`` lines of one event; None if it has none."""
    lines = []
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if name == b"data":
            lines.append(value.removeprefix(b" ") if colon else b"")
    return b"\n".join(lines) if lines else None
