"""The file with a server's API keys."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError

__all__ = ["read_keys"]

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def read_keys(path: str | Path) -> dict[str, str]:
    """Read the API keys of a file, each under the name of a client.

    Each line has a name and a key, separated by spaces, or only a key, whose name is then ``line-N``. Empty
    lines and lines that begin with ``#`` are skipped.

    Args:
        path: The file, in UTF-8.

    Raises:
        ConfigError: The file cannot be read, has no key, or has a name or a key twice. No message holds a
            key.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"--api-key-file={str(path)!r} cannot be read: {reason}") from None
    keys: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        name, key = (f"line-{number}", parts[0]) if len(parts) == 1 else parts[:2]
        where = f"--api-key-file={str(path)!r}, line {number}"
        if len(parts) > 2 or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: allowed is a key, or a name (up to 64 letters, digits, '.', '_', '@', '-'), a "
                "space and a key"
            )
        if name in keys or key in keys.values():
            raise ConfigError(f"{where}: this {'name' if name in keys else 'key'} is in an earlier line")
        keys[name] = key
    if not keys:
        raise ConfigError(f"--api-key-file={str(path)!r}: it has no key")
    return keys
