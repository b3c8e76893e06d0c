"""Decode the bodies of servers that compress although ``Accept-Encoding: identity`` was sent. Pure."""

from __future__ import annotations

import zlib

from ..errors import ServerError

__all__ = ["ContentDecoder", "content_decoder", "unknown_encoding"]

#: Bytes that one call returns at most: a small body can expand a thousandfold.
_MAX_PIECE_SIZE = 1 << 20


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

    Attributes:
        more: Whether `feed` returns more without further bytes.
    """

    def __init__(self, *, gzip: bool) -> None:
        self.more = False
        self._window = 16 + zlib.MAX_WBITS if gzip else zlib.MAX_WBITS
        self._gzip = gzip
        self._held: bytes | None = None if gzip else b""  # the first bytes, until their format is known
        self._inflater = zlib.decompressobj(self._window)
        self._empty = True
        self._rest = b""  # compressed bytes that are not decompressed yet

    def feed(self, data: bytes) -> bytes:
        """Decompress the next bytes, to at most 1 MiB; while there is `more`, the next call needs none.

        Raises:
            ValueError: They are not compressed as announced.
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
        data, decoded, full = self._rest + data, b"", self.more
        while not decoded and (data or (full and not self._inflater.eof)):
            if self._inflater.eof:
                if not self._gzip:  # bytes after the end are ignored
                    data = b""
                    break
                self._inflater = zlib.decompressobj(self._window)  # a gzip body may have several members
            try:
                decoded = self._inflater.decompress(data, _MAX_PIECE_SIZE)
            except zlib.error as error:
                raise ValueError(f"the body is not compressed as announced: {error}") from error
            data = self._inflater.unconsumed_tail or self._inflater.unused_data
            full = len(decoded) == _MAX_PIECE_SIZE
        self._rest, self.more = data, bool(data) or (full and not self._inflater.eof)
        return decoded

    def finish(self) -> None:
        """Note the end of the body.

        Raises:
            ValueError: It was cut off.
        """
        if not self._empty and not self._inflater.eof:
            raise ValueError("the compressed body was cut off")
