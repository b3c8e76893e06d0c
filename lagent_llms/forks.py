"""Forks: a forked child neither uses nor ends what its parent has opened; it opens its own.

Whatever holds a resource notes the `generation` it was opened in, and compares it before each use.
"""

from __future__ import annotations

import contextlib
import logging  # noqa: F401  (its own hooks for forks must exist before a fork waits here)
import os
import threading
from typing import Any

from .errors import LLMError

__all__ = ["MAKE_IN_CHILD", "check", "close_inherited", "generation", "importing"]

#: Number of forks between this process and the one that imported this package.
generation = 0
#: Held while a first call imports modules. A fork waits for it, since its child would find Python's import
#: locks held for ever.
importing = threading.RLock()

#: What to do about an engine of the parent process.
MAKE_IN_CHILD = "make one in this process, or start processes with multiprocessing.get_context('spawn')"


def check(opened: int, what: str, advice: str) -> None:
    """Refuse the use of something that the parent of this forked process has opened.

    Args:
        opened: The `generation` it was opened in.
        what: What it is and what happened to it ("this stream was opened").
        advice: What to do instead.

    Raises:
        LLMError: It belongs to the parent process.
    """
    if opened != generation:
        raise LLMError(f"{what} before this process was forked, and belongs to the parent process: {advice}")


def close_inherited(sock: Any) -> None:
    """Close this process's copy of an inherited socket, so that it cannot keep the connection open.

    The parent's connection is not affected. The descriptor is valid until its owner closes it, but is that of
    /dev/null: a second close can never hit a file that has got the same number since.

    Args:
        sock: Anything with ``fileno()``; None is no socket.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):
        null = os.open(os.devnull, os.O_RDWR)
        try:
            os.dup2(null, sock.fileno(), inheritable=False)
        finally:
            os.close(null)


def _after_fork_in_child() -> None:
    global generation
    generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
    os.register_at_fork(
        before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
    )
