"""gRPC statuses as errors of this library, classified by code and never by message. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import ConnectError, LLMError, ServerError, StreamInterrupted
from ...http.messages import Refusal, server_error

__all__ = ["call_error", "closed_error", "is_ambiguous_status", "status_error"]

#: gRPC status -> HTTP status, so that callers and the retry policy need to know one set of codes.
_HTTP_STATUS: Mapping[str, int] = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


def is_ambiguous_status(code: str) -> bool:
    """Return whether a call can end with `code` both at a Triton server and without reaching one."""
    return code in ("UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN")


def status_error(code: str, details: str, address: str) -> ServerError:
    """Return the error for a status that the server sent.

    Args:
        code: The status's name, for example 'NOT_FOUND'.
        details: The server's message.
        address: The server's address, for the error message.
    """
    return server_error(_HTTP_STATUS.get(code, 500), Refusal(details, code), where=address)


def call_error(code: str, details: str, address: str, *, alive: bool, begun: bool) -> LLMError:
    """Return the error for a call that ended with a status.

    Args:
        code: The status's name.
        details: The message that came with it.
        address: The server's address.
        alive: Whether the status came from a Triton server; False if the server does not answer.
        begun: Whether a response had arrived before.
    """
    if alive:
        return status_error(code, details, address)
    if begun:
        return StreamInterrupted(
            f"the connection to {address} broke before the answer was complete: {details}"
        )
    return ConnectError(f"cannot connect to {address}, or it is no gRPC server: {details}")


def closed_error() -> StreamInterrupted:
    """Return the error raised in a reader when the call is closed from elsewhere."""
    return StreamInterrupted("the call was closed before its answer was complete")
