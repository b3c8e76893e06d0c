"""Files that are appended to and survive a power cut: open, write, lock."""

from __future__ import annotations

import os
from io import FileIO

__all__ = ["lock", "open_to_append", "sync_folder", "write_all"]


def write_all(file: int, data: bytes | bytearray) -> None:
    """Write all of `data` to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def open_to_append(path: str, flags: int, mode: int) -> FileIO:
    """Open a file to read it and to append to it; `flags` and `mode` are those of `os.open`."""
    flags |= os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
    return FileIO(path, "r+", opener=lambda path, _: os.open(path, flags, mode))


def sync_folder(path: str) -> None:
    """Store the name of a file as well: a new file without it is lost in a power cut."""
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
    except PermissionError:  # Windows, or a folder that cannot be listed
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def lock(file: int) -> None:
    """Lock a file for this process, until it is closed.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open twice is not noticed
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
