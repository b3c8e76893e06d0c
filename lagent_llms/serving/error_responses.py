"""How an error of this library is told over HTTP: status, headers, and a body in OpenAI's form. Pure."""

from __future__ import annotations

from typing import Any

from ..errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    NotFound,
    RateLimited,
    ServerError,
    SessionBusy,
    SessionError,
    SessionOutOfLimit,
    StreamInterrupted,
    TemplateError,
    TimeoutExceeded,
    TransportError,
    UnknownParameter,
    UnsupportedParameter,
)

__all__ = ["error_body", "error_headers", "error_status"]

# The first class that fits decides.
_STATUS: tuple[tuple[type[LLMError], int, str], ...] = (
    (ContextLengthExceeded, 400, "context_length_exceeded"),
    (SessionOutOfLimit, 400, "context_length_exceeded"),
    (InvalidArgument, 400, "invalid_value"),
    (UnknownParameter, 400, "unknown_parameter"),
    (UnsupportedParameter, 400, "unsupported_parameter"),
    (TemplateError, 400, "invalid_messages"),
    (SessionBusy, 409, "session_busy"),
    (SessionError, 409, "session_error"),
    (NotFound, 404, "not_found"),
    (RateLimited, 429, "rate_limit_exceeded"),
    (TimeoutExceeded, 504, "timeout"),
    (TransportError, 502, "upstream_unreachable"),
    (ServerError, 502, "upstream_error"),
    (StreamInterrupted, 502, "upstream_interrupted"),
    (LLMError, 500, "server_error"),
)

#: What a backend behind us says of a request that it cannot use: the client's fault, not the backend's.
_REQUEST_FAULTS = (400, 413, 422)


def error_status(error: LLMError) -> tuple[int, str]:
    """The HTTP status and the code that tell of `error`."""
    if isinstance(error, ServerError) and error.status_code in _REQUEST_FAULTS:
        return 400, "context_length_exceeded" if isinstance(
            error, ContextLengthExceeded
        ) else "invalid_request"
    return next((status, code) for cls, status, code in _STATUS if isinstance(error, cls))


def error_headers(error: LLMError) -> dict[str, str]:
    """Headers that belong to `error`: when to come back, for a full queue behind us."""
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, round(error.retry_after or 1)))}
    return {}


def error_body(status: int, message: str, code: str = "", param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form, which its clients know how to read."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code or None}}
