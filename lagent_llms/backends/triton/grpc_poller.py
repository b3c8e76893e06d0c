"""The choice of gRPC's poller."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["forkable_poller"]

_VARIABLE = "GRPC_POLL_STRATEGY"


@contextlib.contextmanager
def forkable_poller() -> Iterator[None]:
    """Let gRPC, if it is imported meanwhile, choose the poller that works in forked children (ADR 93).

    Its default is one epoll set for a process, which a child shares with its parent if the parent reads a
    stream during the fork: each then receives events of the other, with pointers into the other's memory.
    gRPC reads the variable during its import. A value of the application's environment is left alone.
    """
    if _VARIABLE in os.environ or "grpc" in sys.modules:
        yield
        return
    os.environ[_VARIABLE] = "poll"
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)
