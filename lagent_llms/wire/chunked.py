"""Undo HTTP/1.1's chunked transfer coding, many chunks at a time. Pure.

Streaming servers send an event a chunk; a reader that asks the socket chunk by chunk spends most of its time
on the frames. This one takes whatever has arrived.
"""

from __future__ import annotations

__all__ = ["ChunkedDecoder"]

_LONGEST_LINE = 16 * 1024


class ChunkedDecoder:
    """Takes the bytes of a chunked body and gives the bytes inside.

    Attributes:
        complete: The last chunk and the trailers have been read; nothing else belongs to the body.
    """

    __slots__ = ("_left", "_line", "_state", "complete")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._state = "size"
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body.

        Raises:
            ValueError: They are not chunked coding.
        """
        parts: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.complete:
            if self._state == "data":
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
                if not self._left:
                    self._state = "after"
                continue
            newline = data.find(b"\n", position)
            if newline < 0:
                self._line += data[position:]
                if len(self._line) > _LONGEST_LINE:
                    raise ValueError("a line of a chunked body does not end")
                break
            line = (self._line + data[position:newline]).rstrip(b"\r")
            self._line = b""
            position = newline + 1
            self._take_line(line)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take_line(self, line: bytes) -> None:
        if self._state == "size":
            size = line.partition(b";")[0].strip()
            if not size or size.strip(b"0123456789abcdefABCDEF"):
                raise ValueError(f"not the size of a chunk: {line[:40]!r}")
            self._left = int(size, 16)
            self._state = "data" if self._left else "trailer"
        elif self._state == "after":
            if line:
                raise ValueError(f"a chunk is longer than it said: {line[:40]!r}")
            self._state = "size"
        elif not line:  # the empty line after the trailers
            self.complete = True
