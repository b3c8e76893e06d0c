"""Cancel a generation when the client of its HTTP request disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..core.base import AsyncBaseLLM
from ..params import Timeout

if TYPE_CHECKING:
    from fastapi import Request

__all__ = ["NO_TIMEOUT", "ClientDisconnected", "Injection", "call_keywords", "cancel_on_disconnect"]

_T = TypeVar("_T")
Injection = Literal["allow", "escape", "refuse"]

#: No limit on the server's side: compiling a step and waiting for a slot can take minutes.
NO_TIMEOUT = Timeout(first_token=None, idle=None)


def call_keywords(
    llm: AsyncBaseLLM, injection: Injection | None = None, seconds: float | None = None
) -> dict[str, Any]:
    """Keyword arguments of every call made for an HTTP client; they override the defaults of `llm`.

    Calls are stateless, because a session kept open by default would be shared by all clients. The default
    timeout is lifted for an engine in this process; an explicit one and that of a remote backend hold.

    Args:
        llm: The backend.
        injection: What becomes of special tokens in the texts of clients (`CallOptions.injection`); None is
            the default of `llm`, or 'escape' if that is 'allow'.
        seconds: `Limits.request_seconds`.
    """
    if injection is None:
        injection = "escape" if llm.options.injection == "allow" else llm.options.injection
    keywords: dict[str, Any] = {"sequence_start": True, "sequence_end": True, "injection": injection}
    in_process = getattr(llm, "engine", None) is not None
    timeout = llm.options.timeout
    if in_process:
        timeout = NO_TIMEOUT if timeout == Timeout() else timeout
        keywords["retry"] = replace(llm.options.retry, max_retries=0)  # a full queue is the client's to retry
    keywords["timeout"] = replace(timeout, total=seconds) if timeout.total is None else timeout
    return keywords


class ClientDisconnected(Exception):
    """The client disconnected before its response was ready."""


async def cancel_on_disconnect(request: Request, work: Awaitable[_T]) -> _T:
    """Return the result of `work`; cancel it when the client disconnects.

    The request body must have been read already.

    Raises:
        ClientDisconnected: The client disconnected first.
    """
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnected
        return task.result()
    finally:
        task.cancel()
        disconnected.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
