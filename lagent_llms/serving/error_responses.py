"""HTTP responses for errors: status, headers, and a body in OpenAI's format. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

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

__all__ = ["ErrorResponse", "clipped", "error_body", "error_headers", "error_response", "error_status"]

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

#: The messages of failures of the server, by error code. Details, which may hold paths and addresses, are
#: only in the log.
_FAILURES = {
    "timeout": "the model did not answer in time",
    "upstream_unreachable": "the model's server cannot be reached",
    "upstream_error": "the model's server failed",
    "upstream_interrupted": "the answer of the model's server ended early",
    "server_error": "the server failed",
}
#: Most characters of a client's value in a message, and of a whole message.
_MOST_OF_A_VALUE, _MOST_OF_A_MESSAGE = 200, 600
_LONG_VALUES = re.compile(r"(?P<quote>['\"])(?P<text>[^'\"]{200})[^'\"]+(?P=quote)|(?P<run>\S{200})\S+")

#: Statuses by which a remote backend rejects the request itself: answered with 400, not 502.
_REJECTED_REQUEST = (400, 413, 422)


def error_status(error: LLMError) -> tuple[int, str]:
    """The HTTP status and the error code for `error`."""
    if isinstance(error, ServerError) and error.status_code in _REJECTED_REQUEST:
        return 400, "context_length_exceeded" if isinstance(
            error, ContextLengthExceeded
        ) else "invalid_request"
    if isinstance(error, RateLimited) and error.status_code == 503:
        return 503, "queue_full"
    return next((status, code) for cls, status, code in _STATUS if isinstance(error, cls))


def error_headers(error: LLMError) -> dict[str, str]:
    """Headers for `error`: ``Retry-After`` in seconds for a rate limit."""
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, round(error.retry_after or 1)))}
    return {}


class ErrorResponse(NamedTuple):
    """The response for an error.

    Attributes:
        status: The HTTP status.
        body: The body, in OpenAI's format.
        headers: Further headers.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def error_response(error: BaseException, request_id: str) -> ErrorResponse:
    """The response for `error`, without paths, addresses or a traceback.

    Args:
        error: Any exception.
        request_id: The id under which the log has the details of a failure on this side.
    """
    if not isinstance(error, LLMError):
        status, code = 500, "server_error"
    else:
        status, code = error_status(error)
    if status >= 500 and not isinstance(error, RateLimited):
        message = f"{_FAILURES[code]}; the server's log has the details (request {request_id})"
        return ErrorResponse(status, error_body(status, message, code), {})
    assert isinstance(error, LLMError)
    param = None
    if isinstance(error, InvalidArgument):
        param = error.argument or None
    elif isinstance(error, UnsupportedParameter):
        param = error.parameter or None
    code = getattr(error, "code", "") or code
    return ErrorResponse(status, error_body(status, str(error), code, param), error_headers(error))


def clipped(message: str) -> str:
    """`message` with long values cut: a client's value may be as large as its request."""
    message = message[: 10 * _MOST_OF_A_MESSAGE]  # a bound on the work below
    message = _LONG_VALUES.sub(
        lambda found: (
            f"{found['quote']}{found['text']}…{found['quote']}" if found["quote"] else found["run"] + "…"
        ),
        message,
    )
    return message if len(message) <= _MOST_OF_A_MESSAGE else message[:_MOST_OF_A_MESSAGE] + "…"


def error_body(status: int, message: str, code: str = "", param: str | None = None) -> dict[str, Any]:
    """The body of an error response, in OpenAI's format.

    Args:
        status: The HTTP status, which decides the error's ``type``.
        message: Text for the client's user; long values in it are cut.
        code: A machine-readable code; '' is null.
        param: The request field at fault; None is null.
    """
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": clipped(message), "type": kind, "param": param, "code": code or None}}
