"""Choose the server for a request among several equal ones. Pure, and safe to share between threads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ..errors import InvalidArgument
from ..locks import DeferredLock
from .secrets import hide_credentials

__all__ = ["USE_HTTP", "USE_HTTPS", "Endpoints", "check_host", "check_url", "public_url", "split_api"]

#: Advice for a URL with the wrong scheme.
USE_HTTP = "the port does not speak TLS: use http in its URL"
USE_HTTPS = "the port speaks TLS: use https in its URL"

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
#: The end of a URL that names a route of OpenAI's API, and the part of a path that begins with its version.
_ROUTE = re.compile(r"/(?:(?:chat/)?completions|models)$")
_VERSION = re.compile(r"(?<=[^/])/v\d\w*(?:/.*)?$")
_NOT_IN_A_HOST = re.compile(r"""[\x00-\x1f\x7f\s<>"%'\\^`{|}]""")


class Endpoints:
    """The base URLs of equal servers: balances requests and avoids a server that cannot be reached.

    Args:
        urls: Base URLs.
        cooldown: How long a server is avoided after a failed connection, in seconds.
        clock: A monotonic clock, in seconds.

    Attributes:
        urls: Base URLs.
        only: The URL if there is no choice, so `take` need not be called; else None.
    """

    def __init__(
        self, urls: Sequence[str], *, cooldown: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.urls = tuple(urls)
        self.only = self.urls[0] if len(self.urls) == 1 else None
        self._cooldown = cooldown
        self._clock = clock
        self._busy = dict.fromkeys(self.urls, 0)
        self._avoided_until = dict.fromkeys(self.urls, float("-inf"))
        self._turn = 0
        self._lock = DeferredLock()

    def take(self, preferred: int | None = None) -> str:
        """Return the least busy server, in turn among equally busy ones; avoided ones only if all are.

        Every `take` must be followed by one `give_back`.

        Args:
            preferred: The index of the server to return unless it is avoided.
        """
        with self._lock:
            now = self._clock()
            alive = [url for url in self.urls if self._avoided_until[url] <= now] or list(self.urls)
            if preferred is not None and self.urls[preferred] in alive:
                url = self.urls[preferred]
            else:
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
    shown = hide_credentials(value)
    hint = ""
    if isinstance(value, str) and value.strip():
        url = value.strip() if "://" in value else f"http://{value.strip()}"
        try:
            parts = urlsplit(url)
            if parts.scheme in ("http", "https") and not (parts.query or parts.fragment or "@" in parts.path):
                check_host(parts)
                if not _CONTROL.search(url):
                    return url.rstrip("/")
        except ValueError:
            pass
        if "@" in url:
            hint = "; in a user name or password, write '/', '#' and '@' as %2F, %23 and %40"
    given = repr(shown) if isinstance(value, str) else shown
    raise InvalidArgument(
        f"{name}={given}: allowed is an http or https URL such as 'http://127.0.0.1:23333'{hint}",
        argument=name,
    )


def split_api(url: str) -> tuple[str, str]:
    """Split the URL of a server, of an OpenAI-style API or of one of its routes.

    Args:
        url: As `check_url` returns it.

    Returns:
        The URL of the server, and the path of its API: from its version on (``/v1``, ``/v4``), '/v1' if the
        URL names none, '' for a route without one (``http://host/chat/completions``).
    """
    root = _ROUTE.sub("", url)
    if found := _VERSION.search(root):
        return root[: found.start()], found[0]
    return root, "/v1" if root == url else ""


def check_host(parts: SplitResult) -> None:
    """Check host and port of a URL.

    Raises:
        ValueError: They are not valid.
    """
    host = parts.hostname or ""
    labels = host.removesuffix(".").split(".")
    is_name = not _NOT_IN_A_HOST.search(host) and all(0 < len(label) < 64 for label in labels)
    if not (is_name or ":" in host) or parts.port == 0:  # ':' is in IPv6 addresses only
        raise ValueError("not a host and a port")


def public_url(url: str) -> str:
    """Return `url` without credentials, for messages."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
