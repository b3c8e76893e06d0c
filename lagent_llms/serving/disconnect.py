"""Run one generation for one HTTP request, and stop it when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.base import AsyncBaseLLM
from ..params import Timeout

if TYPE_CHECKING:
    from fastapi import Request

__all__ = ["NO_TIMEOUT", "ClientGone", "call_keywords", "cancel_on_disconnect"]

_T = TypeVar("_T")

#: As long as the client waits: a step that is compiled first, and a place in the queue, take their time.
NO_TIMEOUT = Timeout(first_token=None, idle=None)


def call_keywords(llm: AsyncBaseLLM) -> dict[str, Any]:
    """Keywords of every call for an HTTP client, over the defaults of `llm`.

    A call belongs to no session: one that the backend was told to keep open would be that of all clients.
    An engine in this process is waited for as long as the client waits, unless it was given a limit; a remote
    one keeps its own.
    """
    always: dict[str, Any] = {"sequence_start": True, "sequence_end": True}
    of_this_process = getattr(llm, "engine", None) is not None
    return (
        always | {"timeout": NO_TIMEOUT} if of_this_process and llm.options.timeout == Timeout() else always
    )


class ClientGone(Exception):
    """The client has disconnected; nobody reads an answer."""


async def cancel_on_disconnect(request: Request, work: Awaitable[_T]) -> _T:
    """What `work` returns; it is cancelled when the client disconnects.

    The request's body must have been read.

    Raises:
        ClientGone: The client left first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
