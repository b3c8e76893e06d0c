"""Redact credentials from errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from ..errors import LLMError
from ..redaction import redact

__all__ = ["Secrets", "hide_credentials"]

_SECRET_HEADER = re.compile("auth|cookie|key|password|secret|token", re.IGNORECASE)
#: Words in the values of such headers that are no secrets.
_PLAIN_WORD = re.compile(r".{0,3}|\d{0,7}|basic|bearer|false|none|null|token|true", re.IGNORECASE | re.DOTALL)
_QUERY = re.compile(r"""\?[^'"]+""")


def hide_credentials(address: object) -> str:
    """Return an address for a message; what may be credentials in it, well-formed or not, becomes ``***``."""
    text = address if isinstance(address, str) else repr(address)
    login, at, host = text.rpartition("@")
    host = _QUERY.sub("?***", host)
    if not at:
        return host
    scheme, slashes, _ = login.partition("//")
    return f"{scheme}{slashes}***@{host}" if slashes else f"***@{host}"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values to redact from errors.

    Attributes:
        values: Keys, passwords, cookies and the like, longest first.
    """

    values: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, *values: str | None) -> Secrets:
        """Collect `values` and their words, without schemes (``Bearer``) and short words."""
        found: set[str] = set()
        for value in filter(None, values):
            for word in (value, *value.split()):
                found |= {word, quote(word, safe=""), unquote(word)}
        kept = (word for word in found if not _PLAIN_WORD.fullmatch(word))
        return cls(tuple(sorted(kept, key=len, reverse=True)))

    @staticmethod
    def in_headers(headers: Mapping[str, str] | None) -> list[str]:
        """Return the values of the headers whose names mark them as secret (``X-Api-Key``, ``Cookie`` …)."""
        return [
            part.partition("=")[2] if name.lower() == "cookie" else part
            for name, value in (headers or {}).items()
            if _SECRET_HEADER.search(name)
            for part in (value.split(";") if name.lower() == "cookie" else [value])
        ]

    def redact(self, text: str) -> str:
        """Replace every secret in `text`, and the credentials of every URL, by ``***``."""
        return redact(text, self.values)

    def redact_error(self, error: LLMError) -> None:
        """Redact the texts of `error`, but not the partial answer; drop causes whose texts hold a secret."""
        error.args = tuple(self.redact(item) if isinstance(item, str) else item for item in error.args)
        for name, value in vars(error).items():
            if isinstance(value, str) and name != "partial":
                setattr(error, name, self.redact(value))
        for link in ("__cause__", "__context__"):
            if any(self.redact(text) != text for text in _texts(getattr(error, link))):
                setattr(error, link, None)


def _texts(error: BaseException | None) -> Iterator[str]:
    """Yield what a traceback shows of `error` and of the errors before it."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        error = pending.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            yield str(error)
            yield repr(error)
            pending += [error.__cause__, error.__context__]
