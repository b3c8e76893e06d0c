"""Repeat an operation that has one result, as `Attempts` decides: for calls that are no generation."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..errors import LLMError
from ..retry import Attempts

__all__ = ["repeat", "repeat_async"]

_T = TypeVar("_T")


def repeat(attempts: Attempts, operation: Callable[[], _T]) -> _T:
    """Return the result of `operation`, which is called again after errors that `attempts` retries.

    Raises:
        LLMError: The last attempt failed.
    """
    while True:
        try:
            return operation()
        except LLMError as error:
            if (seconds := attempts.backoff(error)) is None:
                raise
        time.sleep(seconds)


async def repeat_async(attempts: Attempts, operation: Callable[[], Awaitable[_T]]) -> _T:
    """`repeat` for an operation that is awaited."""
    import asyncio  # here, to keep the package's import fast

    while True:
        try:
            return await operation()
        except LLMError as error:
            if (seconds := attempts.backoff(error)) is None:
                raise
        await asyncio.sleep(seconds)
