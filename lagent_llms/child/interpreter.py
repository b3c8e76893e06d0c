"""Find a Python interpreter for a child process."""

from __future__ import annotations

import os
import re
import sys

from ..errors import ServerStartError

__all__ = ["find_python"]

_INTERPRETER = re.compile("python|pypy", re.IGNORECASE)


def find_python() -> str:
    """Return the path of this environment's interpreter.

    `sys.executable` may be another program that embeds Python (uWSGI, a frozen program), which must not be
    started with an interpreter's arguments. So only a file with the name of an interpreter is returned: that
    one, or one in the environment's folder of programs.

    Raises:
        ServerStartError: There is no such file.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = [] if getattr(sys, "frozen", False) else [sys.executable or ""]
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        found += [os.path.join(prefix, "bin", name) for name in (version, "python3", "python")]
    for path in found:
        if _INTERPRETER.search(os.path.basename(path)) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise ServerStartError(
        f"sys.executable={sys.executable!r} is no Python interpreter, and there is none in "
        f"{os.path.join(sys.exec_prefix, 'bin')}: a child server needs one; set sys.executable to its path"
    )
