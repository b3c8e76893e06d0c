"""The errors of lorax-client, as subclasses of `lagent_llms.errors`, and their classification. No I/O.

::

    ServerError
    ├── ValidationError (also InvalidArgument)      the server, or this client, rejects the request
    │   └── UnprocessableEntityError                HTTP 422 without a known error_type
    ├── GenerationError                             decoding failed, or an adapter cannot be loaded
    ├── IncompleteGenerationError (also StreamInterrupted)
    ├── BadRequestError                             HTTP 400
    ├── ShardNotReadyError                          HTTP 424
    │   └── ForbiddenError (also AuthenticationError)     HTTP 403
    ├── ShardTimeoutError                           HTTP 504
    ├── NotFoundError (also NotFound)               HTTP 404
    ├── OverloadedError (also RateLimited)          too many requests at once
    ├── RateLimitExceededError (also RateLimited)   HTTP 429 without a known error_type
    ├── NotSupportedError
    └── UnknownError                                everything else
        └── UnauthorizedError (also AuthenticationError)  HTTP 401
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import (
    AuthenticationError,
    InvalidArgument,
    ModelStatusCode,
    NotFound,
    RateLimited,
    ServerError,
    StreamInterrupted,
)

__all__ = [
    "BadRequestError",
    "ForbiddenError",
    "GenerationError",
    "IncompleteGenerationError",
    "NotFoundError",
    "NotSupportedError",
    "OverloadedError",
    "RateLimitExceededError",
    "ShardNotReadyError",
    "ShardTimeoutError",
    "UnauthorizedError",
    "UnknownError",
    "UnprocessableEntityError",
    "ValidationError",
    "parse_error",
]


class ValidationError(ServerError, InvalidArgument):
    """The request is not valid, according to the server or to this client.

    `status_code` is None if the client rejected the request before sending it.

    Attributes:
        argument: Name of the argument, '' if unknown.
    """

    status = ModelStatusCode.SESSION_INVALID_ARG

    def __init__(
        self, message: str = "", *, status_code: int | None = None, code: str = "", argument: str = ""
    ) -> None:
        super().__init__(message, status_code=status_code, code=code)
        self.argument = argument


class UnprocessableEntityError(ValidationError):
    """HTTP 422 without a known error_type: the body does not have the expected structure."""


class GenerationError(ServerError):
    """The server failed while decoding, or could not load the adapter."""


class IncompleteGenerationError(StreamInterrupted, ServerError):
    """The stream ended before its final event; `partial` is the text received so far."""

    def __init__(
        self, message: str = "", *, status_code: int | None = None, code: str = "", partial: str = ""
    ) -> None:
        ServerError.__init__(self, message, status_code=status_code, code=code)
        self.partial = partial


class BadRequestError(ServerError):
    """HTTP 400: the body is not JSON."""


class ShardNotReadyError(ServerError):
    """HTTP 424 without a known error_type, or 403: the model cannot be used now."""


class ForbiddenError(ShardNotReadyError, AuthenticationError):
    """HTTP 403: the token does not allow this."""


class ShardTimeoutError(ServerError):
    """HTTP 504: the model did not respond in time."""


class NotFoundError(NotFound):
    """HTTP 404: no such route, or no such deployment."""


class OverloadedError(RateLimited):
    """The server's limit of concurrent requests is reached."""


class RateLimitExceededError(RateLimited):
    """HTTP 429 without a known error_type, sent by a gateway in front of the server."""


class NotSupportedError(ServerError):
    """The model cannot be used with this client."""

    def __init__(self, model_id: str = "", *, status_code: int | None = None, code: str = "") -> None:
        suffix = " is not available for inference with this client."
        message = model_id if model_id.endswith(suffix) else f"Model `{model_id}`{suffix}"  # pickle: whole
        super().__init__(message, status_code=status_code, code=code)


class UnknownError(ServerError):
    """An error without a class of its own.

    Args:
        message: The server's message; the status is prepended.
        status_code: HTTP status.
        code: The server's error_type.
    """

    def __init__(self, message: str = "", status_code: int | None = None, *, code: str = "") -> None:
        full = message if status_code is None else f"Error status {status_code}: {message}"
        super().__init__(full, status_code=status_code, code=code)


class UnauthorizedError(UnknownError, AuthenticationError):
    """HTTP 401: the token is missing or wrong."""


_BY_TYPE: Mapping[str, type[ServerError]] = {
    "generation": GenerationError,
    "incomplete_generation": IncompleteGenerationError,
    "overloaded": OverloadedError,
    "validation": ValidationError,
}
_BY_STATUS: Mapping[int, type[ServerError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    424: ShardNotReadyError,
    429: RateLimitExceededError,
    504: ShardTimeoutError,
}
#: Status of each error_type when it is not part of a stream, where the HTTP status is 200.
_STATUS_OF_TYPE = {
    "generation": 424,
    "incomplete_generation": 500,
    "overloaded": 429,
    "validation": 422,
    "template_error": 422,
    "tool_error": 422,
    "missing_template_variable": 422,
    "embedding_failure": 500,
    "classification_failure": 500,
}


def parse_error(
    status_code: int,
    payload: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    *,
    retry_after: float | None = None,
) -> ServerError:
    """Make the error for a response, classified by its error_type, else by its status.

    Args:
        status_code: HTTP status; 200 for an event of a stream.
        payload: Decoded body, ``{"error": …, "error_type": …}``.
        headers: Headers of the response; x-b3-traceid is added to the message.
        retry_after: Value of Retry-After, in seconds.
    """
    message = str(payload.get("error") or payload.get("message") or "")
    code = str(payload.get("error_type") or "")
    if trace := (headers or {}).get("x-b3-traceid"):
        message += f": Trace ID: {trace}"
    status = _STATUS_OF_TYPE.get(code, 500) if status_code < 300 else status_code
    kind = _BY_TYPE.get(code) or _BY_STATUS.get(status, UnknownError)
    error = kind(message, status_code=status, code=code)
    error.retry_after = retry_after
    return error
