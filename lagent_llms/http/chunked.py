"""Undo HTTP/1.1's chunked transfer coding, many chunks at a time. Pure.

Streaming servers send an event a chunk; a reader that asks the socket chunk by chunk spends most of its time
on the frames. This one takes whatever has arrived.
"""

from __future__ import annotations

__all__ = ["ChunkedDecoder"]

_LONGEST_LINE = 16 * 1024
_SIZE, _DATA, _AFTER, _TRAILER = range(4)  # what comes next


class ChunkedDecoder:
    """Takes the bytes of a chunked body and gives the bytes inside.

    Attributes:
        complete: The last chunk and the trailers have been read; nothing else belongs to the body.
        rest: What came after the body.
    """

    __slots__ = ("_held", "_left", "_state", "complete", "rest")

    def __init__(self) -> None:
        self._held = b""  # the beginning of a line
        self._left = 0  # bytes of the chunk that are still to come
        self._state = _SIZE
        self.complete = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body.

        Raises:
            ValueError: They are not chunked coding.
        """
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        position, end = 0, len(data)
        while position < end and not self.complete:
            if self._state == _DATA:
                part = data[position : position + self._left]
                parts.append(part)
                position += len(part)
                self._left -= len(part)
                if not self._left:
                    self._state = _AFTER
                continue
            newline = data.find(b"\n", position)
            if newline < 0:
                self._held = data[position:]
                if len(self._held) > _LONGEST_LINE:
                    raise ValueError("a line of a chunked body does not end")
                break
            line = data[position:newline].rstrip(b"\r")
            position = newline + 1
            if self._state == _SIZE:
                self._left = _size(line)
                self._state = _DATA if self._left else _TRAILER
                after = position + self._left
                if self._left and data[after : after + 2] == b"\r\n":  # all of it is here, as nearly always
                    parts.append(data[position:after])
                    position = after + 2
                    self._state = _SIZE
            elif self._state == _TRAILER:
                self.complete = not line
            elif line:
                raise ValueError(f"a chunk is longer than it said: {line[:40]!r}")
            else:
                self._state = _SIZE
        if self.complete:
            self.rest += data[position:]
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip() if b";" in line else line
    try:
        size = int(digits, 16)
    except ValueError:
        size = -1
    if size < 0 or not digits.isalnum():  # int() takes signs and underscores, this coding does not
        raise ValueError(f"not the size of a chunk: {line[:40]!r}")
    return size
