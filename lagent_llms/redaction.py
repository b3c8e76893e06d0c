"""Replace secrets in texts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["redact"]

_CREDENTIALS_IN_URL = re.compile(r"""(?<=://)[^\s/"'<>]*@""")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace every one of `secrets`, and the credentials of every URL, by ``***``; longer secrets first."""
    for value in secrets:
        text = text.replace(value, "***")
    return _CREDENTIALS_IN_URL.sub("***@", text)
