"""Cancel requests, sent in the background; the next turn of a session waits for that of the last one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable

from .conversation import InferRequest
from .grpc_commands import CLOSE_TIMEOUT, SendCancel, WaitForCancel

__all__ = ["AsyncPendingCancels", "PendingCancels"]


class PendingCancels:
    """The cancel requests of one channel, each sent by a thread."""

    def __init__(self) -> None:
        self._pending: dict[int | None, threading.Event] = {}

    def start(self, cancel: SendCancel, send: Callable[[InferRequest], None]) -> None:
        """Execute a `SendCancel`.

        Args:
            cancel: The command.
            send: Sends a request and returns when it is completed; raises nothing.
        """
        done = self._pending[cancel.session] = threading.Event()

        def run() -> None:
            try:
                send(cancel.request)
            finally:
                done.set()
                if self._pending.get(cancel.session) is done:
                    del self._pending[cancel.session]

        try:
            threading.Thread(target=run, name="stop-generation", daemon=True).start()
        except RuntimeError:  # at interpreter exit no thread can be started
            done.set()

    def wait(self, command: WaitForCancel) -> None:
        """Execute a `WaitForCancel`."""
        if (done := self._pending.get(command.session)) is not None:
            done.wait(command.timeout)

    def wait_all(self) -> None:
        """Wait until none is pending, at most `CLOSE_TIMEOUT`."""
        end = time.monotonic() + CLOSE_TIMEOUT
        for done in list(self._pending.values()):
            done.wait(max(0.0, end - time.monotonic()))


class AsyncPendingCancels:
    """The cancel requests of one event loop's channel, each sent by a task."""

    def __init__(self) -> None:
        self._pending: dict[int | None, asyncio.Task[None]] = {}

    def start(self, cancel: SendCancel, send: Callable[[InferRequest], Awaitable[None]]) -> None:
        """Execute a `SendCancel`; see `PendingCancels.start`."""

        def forget(done: asyncio.Task[None]) -> None:
            if self._pending.get(cancel.session) is done:
                del self._pending[cancel.session]

        async def run() -> None:
            with contextlib.suppress(asyncio.CancelledError):  # the loop or the channel ends
                await send(cancel.request)

        with contextlib.suppress(RuntimeError):  # called by a finalizer while no loop runs
            loop = asyncio.get_running_loop()
            task = self._pending[cancel.session] = loop.create_task(run())
            task.add_done_callback(forget)

    async def wait(self, command: WaitForCancel) -> None:
        """Execute a `WaitForCancel`."""
        if (task := self._pending.get(command.session)) is not None:
            await asyncio.wait({task}, timeout=command.timeout)

    async def wait_all(self) -> None:
        """Wait until none is pending, at most `CLOSE_TIMEOUT`."""
        if self._pending:
            await asyncio.wait(set(self._pending.values()), timeout=CLOSE_TIMEOUT)
