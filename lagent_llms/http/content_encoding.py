"""Decode the bodies of servers that compress although ``Accept-Encoding: identity`` was sent. Pure."""

from __future__ import annotations

import zlib

from ..errors import ServerError

__all__ = ["ContentDecoder", "content_decoder", "unknown_encoding"]

#: Maximum decoded size of one piece of a body (at most 64 KiB), in bytes.
_MAX_DECODED_SIZE = 1 << 24


def content_decoder(encoding: str) -> ContentDecoder | None:
    """Make the decoder for a Content-Encoding header, '' if there is none; None if the body is not encoded.

    Raises:
        ServerError: The encoding is unknown.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return ContentDecoder(gzip=encoding != "deflate")
    raise unknown_encoding(encoding)


def unknown_encoding(encoding: str) -> ServerError:
    """Make the error for a Content-Encoding that cannot be decoded."""
    return ServerError(
        f"the response has Content-Encoding {encoding[:80]!r}: only identity, gzip and deflate can be read"
    )


class ContentDecoder:
    """Decompresses a body piece by piece.

    Args:
        gzip: True for gzip, False for deflate (with or without zlib's header).
    """

    def __init__(self, *, gzip: bool) -> None:
        self._window = 16 + zlib.MAX_WBITS if gzip else zlib.MAX_WBITS
        self._gzip = gzip
        self._held: bytes | None = None if gzip else b""  # the first bytes, until their format is known
        self._inflater = zlib.decompressobj(self._window)
        self._empty = True

    def feed(self, data: bytes) -> bytes:
        """Decompress the next bytes.

        Raises:
            ValueError: They are not compressed as announced, or expand to more than 16 MiB.
        """
        self._empty = self._empty and not data
        if self._held is not None:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return b""
            self._held = None
            if data[0] & 15 != zlib.DEFLATED or (data[0] << 8 | data[1]) % 31:  # no zlib header
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        parts: list[bytes] = []
        remaining = _MAX_DECODED_SIZE
        while data and not (self._inflater.eof and not self._gzip):
            if self._inflater.eof:  # a gzip body may have several members
                self._inflater = zlib.decompressobj(self._window)
            try:
                parts.append(self._inflater.decompress(data, remaining))
            except zlib.error as error:
                raise ValueError(f"the body is not compressed as announced: {error}") from error
            remaining -= len(parts[-1])
            if self._inflater.unconsumed_tail or not remaining:
                raise ValueError(f"{len(data)} bytes of the body expand to more than {_MAX_DECODED_SIZE}")
            data = self._inflater.unused_data
        return b"".join(parts)

    def finish(self) -> None:
        """Note the end of the body.

        Raises:
            ValueError: It was cut off.
        """
        if not self._empty and not self._inflater.eof:
            raise ValueError("the compressed body was cut off")
