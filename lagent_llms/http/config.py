"""What the synchronous and the asynchronous HTTP driver share: errors, headers, proxies, certificates."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from ..errors import ConfigError, ConnectError, StreamInterrupted, TimeoutExceeded
from .endpoints import public_url
from .messages import check_headers

__all__ = [
    "connect_error",
    "connect_timeout",
    "environment_proxies",
    "interrupted",
    "request_headers",
    "tls_context",
]


def connect_error(url: str, error: BaseException) -> ConnectError:
    """No connection to `url`, for the reason that is at the bottom of `error`."""
    reason: BaseException = error
    while (deeper := reason.__cause__ or reason.__context__) is not None:
        reason = deeper
    if isinstance(reason, OSError) and (reason.errno or 0) > 0 and not isinstance(reason, ssl.SSLError):
        words = os.strerror(reason.errno or 0)
    else:
        words = str(reason) or type(reason).__name__
    return ConnectError(f"cannot connect to {public_url(url)}: {words}")


def connect_timeout(url: str, seconds: float | None) -> TimeoutExceeded:
    """No connection to `url` in time."""
    return TimeoutExceeded(
        f"no connection to {public_url(url)} within {seconds or 0:g} s", phase="connect", seconds=seconds
    )


def interrupted(url: str, error: BaseException | None = None) -> StreamInterrupted:
    """The connection to `url` broke after the request was sent, or what came over it makes no sense."""
    words = f": {error}" if error is not None and str(error) else ""
    return StreamInterrupted(
        f"the connection to {public_url(url)} broke before the answer was complete{words}"
    )


def request_headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """The headers of every request of a transport."""
    from .. import __version__

    headers = {"User-Agent": f"lagent_llms/{__version__}", "Accept-Encoding": "identity"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    return {**check_headers(headers), **check_headers(given or {})}


def environment_proxies(urls: Iterable[str]) -> dict[str, str]:
    """The proxy for each of `urls` that the environment names one for.

    Looking it up takes longer than a request: a transport does it once.
    """
    named = urllib.request.getproxies()
    found = {}
    for url in urls:
        parts = urlsplit(url)
        proxy = named.get(parts.scheme) or named.get("all")
        if proxy and not urllib.request.proxy_bypass(parts.hostname or ""):
            found[url] = proxy
    return found


def tls_context(verify: bool | str | os.PathLike[str]) -> ssl.SSLContext | None:
    """How to check a server's certificate: None for the system's way, else as `verify` says.

    Args:
        verify: False checks nothing, a path is a file of trusted certificates.

    Raises:
        ConfigError: The file cannot be used.
    """
    if verify is True:
        return None
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        return ssl.create_default_context(cafile=os.fspath(verify))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"verify={str(verify)!r}: cannot be used as certificates: {error}") from error
