"""Choose the server for a request among several equal ones. Pure, and safe to share between threads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit, urlunsplit

from ..errors import InvalidArgument
from ..locks import DeferredLock

__all__ = ["USE_HTTP", "USE_HTTPS", "Endpoints", "check_url", "public_url"]

#: Advice for a URL with the wrong scheme.
USE_HTTP = "the port does not speak TLS: use http in its URL"
USE_HTTPS = "the port speaks TLS: use https in its URL"

_NOT_IN_A_HOST = re.compile(r"""[\s<>"'\\^`{|}]""")


class Endpoints:
    """The base URLs of equal servers: balances requests and avoids a server that cannot be reached.

    Args:
        urls: Base URLs.
        cooldown: How long a server is avoided after a failed connection, in seconds.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, urls: Sequence[str], *, cooldown: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.urls = tuple(urls)
        self._cooldown = cooldown
        self._clock = clock
        self._busy = dict.fromkeys(self.urls, 0)
        self._avoided_until = dict.fromkeys(self.urls, float("-inf"))
        self._turn = 0
        self._lock = DeferredLock()

    @property
    def alive(self) -> bool:
        """Whether at least one server is not avoided at present."""
        with self._lock:
            return any(until <= self._clock() for until in self._avoided_until.values())

    def take(self) -> str:
        """Return the least busy server, in turn among equally busy ones; avoided ones only if all are.

        Every `take` must be followed by one `give_back`.
        """
        with self._lock:
            now = self._clock()
            alive = [url for url in self.urls if self._avoided_until[url] <= now] or list(self.urls)
            self._turn += 1
            start = self._turn % len(alive)
            url = min(alive[start:] + alive[:start], key=self._busy.__getitem__)
            self._busy[url] += 1
            return url

    def give_back(self, url: str, *, alive: bool = True) -> None:
        """Note the end of a request to `url`; ``alive=False`` if no connection could be made."""
        until = float("-inf") if alive else self._clock() + self._cooldown

        def give_back() -> None:
            self._busy[url] -= 1
            self._avoided_until[url] = until

        self._lock.defer(give_back)


def check_url(name: str, value: object) -> str:
    """Return `value` as a base URL without a slash at its end; a missing scheme is http, as in lagent.

    Raises:
        InvalidArgument: `value` is not an http or https URL.
    """
    shown = re.sub(r"//[^/]*@", "//***@", value) if isinstance(value, str) else value
    invalid = InvalidArgument(
        f"{name}={shown!r}: allowed is an http or https URL such as 'http://127.0.0.1:23333'", argument=name
    )
    if not isinstance(value, str) or not value.strip():
        raise invalid
    url = value.strip() if "://" in value else f"http://{value.strip()}"
    try:
        parts = urlsplit(url)
        bad = parts.scheme not in ("http", "https") or parts.port == 0
        bad = bad or not parts.hostname or bool(_NOT_IN_A_HOST.search(parts.hostname))
    except ValueError:
        bad = True
    if bad or parts.query or parts.fragment:
        raise invalid
    return url.rstrip("/")


def public_url(url: str) -> str:
    """Return `url` without credentials, for messages."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
