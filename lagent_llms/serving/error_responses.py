"""HTTP responses for errors: status, headers, and a body in OpenAI's format. Pure."""

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

# (class, HTTP status, error code); the first matching class decides.
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

#: Statuses by which a remote backend rejects the request itself: answered with 400, not 502.
_REJECTED_REQUEST = (400, 413, 422)


def error_status(error: LLMError) -> tuple[int, str]:
    """The HTTP status and the error code for `error`."""
    if isinstance(error, ServerError) and error.status_code in _REJECTED_REQUEST:
        return 400, "context_length_exceeded" if isinstance(
            error, ContextLengthExceeded
        ) else "invalid_request"
    return next((status, code) for cls, status, code in _STATUS if isinstance(error, cls))


def error_headers(error: LLMError) -> dict[str, str]:
    """Headers for `error`: ``Retry-After`` in seconds for a rate limit."""
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, round(error.retry_after or 1)))}
    return {}


def error_body(status: int, message: str, code: str = "", param: str | None = None) -> dict[str, Any]:
    """The body of an error response, in OpenAI's format.

    Args:
        status: The HTTP status, which decides the error's ``type``.
        message: Text for the client's user.
        code: A machine-readable code; '' is null.
        param: The request field at fault; None is null.
    """
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": param, "code": code or None}}
