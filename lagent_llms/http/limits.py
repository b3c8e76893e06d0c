"""The limits on what a server may send. The constructor argument `max_response_bytes` sets the first one."""

from __future__ import annotations

__all__ = [
    "MAX_ERROR_BODY_SIZE",
    "MAX_EVENT_SIZE",
    "MAX_HEADERS",
    "MAX_HEAD_SIZE",
    "MAX_INTERIM_RESPONSES",
    "MAX_RESPONSE_BYTES",
]

#: Default of `max_response_bytes`: the body of one response, decompressed, in bytes.
MAX_RESPONSE_BYTES = 1 << 28
#: Bytes of one event of a stream.
MAX_EVENT_SIZE = 1 << 26
#: Bytes of an error body that are read; the rest is ignored.
MAX_ERROR_BODY_SIZE = 1 << 20
#: Bytes of all heads and trailers of a response, and of chunk framing between two pieces of its body.
MAX_HEAD_SIZE = 1 << 16
#: Headers and trailers of a response, those of interim responses included.
MAX_HEADERS = 256
#: Interim responses (1xx) before a response.
MAX_INTERIM_RESPONSES = 16
