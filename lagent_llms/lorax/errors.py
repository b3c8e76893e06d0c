"""All errors, in the module where lorax-client has them."""

from __future__ import annotations

from .error_types import (
    BadRequestError,
    ForbiddenError,
    GenerationError,
    IncompleteGenerationError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    RateLimitExceededError,
    ShardNotReadyError,
    ShardTimeoutError,
    UnauthorizedError,
    UnknownError,
    UnprocessableEntityError,
    ValidationError,
    parse_error,
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
