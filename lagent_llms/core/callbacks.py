"""Sources for an engine in this process that reports its events by a callback from its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..schema import Piece
from .deadline import Deadline
from .request import Request

__all__ = ["AsyncCallbackSource", "CallbackSource", "Handle", "Submit"]

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)


class Handle(Protocol):
    """A submitted request."""

    def cancel(self) -> object:
        """Stop the generation, without blocking; may be called more than once."""


class _Decoder(Protocol[E_contra]):
    def piece(self, event: E_contra, /) -> Piece | None:
        """The piece of an event; None when the generation was cancelled.

        Raises:
            LLMError: The engine failed.
        """


#: Submits a request to an engine; the engine passes its events to the first function, from any thread. To the
#: second it passes True when the request begins to wait for a place in the engine or for a compilation, and
#: False when the engine works on it; the limits on the engine's silence are held in between.
Submit = Callable[
    [Request, Callable[[E], None], Callable[[bool], None]],
    tuple[Handle, _Decoder[E]],
]


class _Waits:
    """The change of what a request waits for, among the events.

    Args:
        held: Whether it waits for something that is not the engine's answer.
    """

    __slots__ = ("held",)

    def __init__(self, held: bool) -> None:
        self.held = held

    def apply(self, deadline: Deadline) -> None:
        """Hold or resume `deadline`."""
        if self.held:
            deadline.hold()
        else:
            deadline.resume()


def _waits(deadline: Deadline, put: Callable[[_Waits], None]) -> Callable[[bool], None]:
    """The function that an engine tells what a request waits for."""
    creator = threading.get_ident()

    def on_wait(held: bool) -> None:
        if held and threading.get_ident() == creator:  # `submit` itself: the engine does not have it yet
            deadline.hold()
        else:
            put(_Waits(held))

    return on_wait


class CallbackSource(Generic[E]):
    """The pieces of one request, for a thread to wait on.

    Args:
        request: The request.
        submit: Submits it.
        engine: The engine that makes the answer; error messages show its `repr`.
    """

    def __init__(self, request: Request, submit: Submit[E], engine: object) -> None:
        self._events: queue.SimpleQueue[E | _Waits] = queue.SimpleQueue()
        self._deadline = Deadline(request.options.timeout)
        self._engine = engine
        self._handle, self._decoder = submit(
            request, self._events.put, _waits(self._deadline, self._events.put)
        )

    def __next__(self) -> Piece:
        self._deadline.wake()
        while True:
            try:
                event = self._events.get(timeout=self._deadline.remaining())
            except queue.Empty:
                raise self._deadline.exceeded(repr(self._engine)) from None
            if not isinstance(event, _Waits):
                break
            event.apply(self._deadline)
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()


class AsyncCallbackSource(Generic[E]):
    """The pieces of one request, for an event loop to wait on. The arguments: see `CallbackSource`."""

    def __init__(self, request: Request, submit: Submit[E], engine: object) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[E | _Waits] = asyncio.Queue()
        self._deadline = Deadline(request.options.timeout)
        self._engine = engine

        def on_event(event: E | _Waits) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the reader
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._handle, self._decoder = submit(request, on_event, _waits(self._deadline, on_event))

    async def __anext__(self) -> Piece:
        self._deadline.wake()
        while True:
            event = await self._deadline.wait(self._events.get(), self._engine)
            if not isinstance(event, _Waits):
                break
            event.apply(self._deadline)
        self._deadline.piece_arrived()
        piece = self._decoder.piece(event)
        if piece is None:
            raise StopAsyncIteration
        return piece

    def close(self) -> None:
        """Stop the generation."""
        self._handle.cancel()
