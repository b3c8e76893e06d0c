"""The errors, under the name of the module that lorax-client has them in."""

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
