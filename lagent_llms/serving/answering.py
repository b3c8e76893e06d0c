"""Run one generation for one HTTP request, and stop it when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

__all__ = ["ClientGone", "unless_gone"]

_T = TypeVar("_T")


class ClientGone(Exception):
    """The client has disconnected; nobody reads an answer."""


async def unless_gone(request: Request, work: Awaitable[_T]) -> _T:
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
