"""The interface of a backend's running generation: what a stream reads pieces from, and closes."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from ..schema import Piece

__all__ = ["AsyncSource", "Closable", "Source"]


class Closable(Protocol):
    """Something that can be stopped."""

    def close(self) -> None:
        """Stop the generation and free its resources, at once.

        May be called at any time, from any thread and from a finalizer, more than once; it does not wait.
        """


class Source(Closable, Protocol):
    """Pieces of one answer."""

    def __next__(self) -> Piece: ...


class AsyncSource(Closable, Protocol):
    """Pieces of one answer.

    A source that receives several pieces at once may keep the further ones in a deque named `ready`: the
    stream takes them from there without a step of the event loop.
    """

    def __anext__(self) -> Awaitable[Piece]: ...
