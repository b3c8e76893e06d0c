"""Check the address and port a server will listen on."""

from __future__ import annotations

import contextlib
import os
import socket

from ..errors import InvalidArgument, ServerStartError

__all__ = ["check_free", "check_port", "connect_host"]


def connect_host(server_name: str) -> str:
    """Host to put into a URL for a local server that listens on `server_name` (a wildcard is loopback)."""
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(server_name, server_name)
    return f"[{host}]" if ":" in host else host


def check_port(server_name: str, port: object) -> int:
    """Return `port`, or a free port if it is 0.

    Raises:
        InvalidArgument: `port` is not an integer from 0 to 65535.
        ServerStartError: `port` is 0 and `server_name` cannot be bound.
    """
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise InvalidArgument(f"server_port={port!r}: allowed is 0 to 65535", argument="server_port")
    if port:
        return port
    with _bound(server_name, 0) as probe:
        return int(probe.getsockname()[1])


def check_free(server_name: str, port: int) -> None:
    """Check that a server can bind `server_name` and `port`.

    Raises:
        ServerStartError: The address cannot be bound; the message holds the system's reason.
    """
    _bound(server_name, port).close()


def _bound(server_name: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in server_name else socket.AF_INET
    try:
        with contextlib.ExitStack() as opened:
            probe = opened.enter_context(socket.socket(family))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((server_name, port))
            opened.pop_all()
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else str(error)
        raise ServerStartError(f"{server_name}:{port} cannot be listened on: {reason}") from error
    return probe
