"""gRPC statuses as our errors, told by their code and never by their words. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ConnectError, LLMError, ServerError, StreamInterrupted
from ...http.messages import Refusal, server_error

__all__ = ["answer_error", "status_error"]

#: gRPC's statuses as those of HTTP, so that a caller (and the retry policy) reads both alike.
_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


def status_error(code: str, details: str, where: str) -> ServerError:
    """The error for a status that the server sent.

    Args:
        code: Its name, 'NOT_FOUND'.
        details: The server's words.
        where: The server's address, for the message.
    """
    return server_error(_STATUS.get(code, 500), Refusal(details, code), where=where)


def answer_error(code: str, details: str, where: str, *, alive: bool, begun: bool) -> LLMError:
    """The error for a call that ended with `code`.

    Args:
        code: The status.
        details: The words that came with it.
        where: The server's address.
        alive: Whether the server answers, seen after a status that can also mean that it does not.
        begun: Whether a response had come before.
    """
    if alive:
        return status_error(code, details, where)
    if begun:
        return StreamInterrupted(f"the connection to {where} broke before the answer was complete: {details}")
    return ConnectError(f"cannot connect to {where}, or it speaks no gRPC: {details}")
