"""Sources for an engine in this process that reports its events by a callback from its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..schema import Piece
from .deadline import Deadline
from .request import Request

__all__ = ["AsyncCallbackSource", "CallbackSource", "Submit"]

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class _Handle(Protocol):
    def cancel(self) -> object:
        """Stop the generation, without blocking; may be called more than once."""


class _Decoder(Protocol[E_contra]):
    def piece(self, event: E_contra, /) -> Piece | None:
        """The piece of an event; None when the generation was cancelled.

        Raises:
            LLMError: The engine failed.
        """


#: Submits a request to an engine; the engine passes its events to the given function, from any thread.
Submit = Callable[[Request, Callable[[E], None]], tuple[_Handle, _Decoder[E]]]


class CallbackSource(Generic[E]):
    """The pieces of one request, for a thread to wait on."""

    def __init__(self, request: Request, submit: Submit[E]) -> None:
        self._events: queue.SimpleQueue[E] = queue.SimpleQueue()
        self._deadline = Deadline(request.options.timeout)
        self._handle, self._decoder = submit(request, self._events.put)

    def __next__(self) -> Piece:
        self._deadline.wake()
        try:
            event = self._events.get(timeout=self._deadline.remaining())
        except queue.Empty:
            raise self._deadline.exceeded() from None
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()


class AsyncCallbackSource(Generic[E]):
    """The pieces of one request, for an event loop to wait on."""

    def __init__(self, request: Request, submit: Submit[E]) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[E] = asyncio.Queue()
        self._deadline = Deadline(request.options.timeout)

        def on_event(event: E) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the reader
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._handle, self._decoder = submit(request, on_event)

    async def __anext__(self) -> Piece:
        self._deadline.wake()
        event = await self._deadline.wait(self._events.get())
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()
