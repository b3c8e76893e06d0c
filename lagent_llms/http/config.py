"""Errors, headers and TLS contexts for both HTTP clients."""

from __future__ import annotations

import encodings.idna  # noqa: F401  (the first connection imports it, perhaps during a fork)
import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .. import validators
from ..core.deadline import timeout_exceeded
from ..errors import ConfigError, ConnectError, StreamInterrupted, TimeoutExceeded
from .endpoints import USE_HTTP
from .environment import read_environment
from .messages import check_headers
from .proxy import Route, ascii_url, basic_auth, find_route
from .secrets import Secrets

__all__ = [
    "Routes",
    "connect_error",
    "connect_timeout",
    "direct_routes",
    "given_headers",
    "headers_for",
    "interrupted",
    "request_headers",
    "tls_context",
]

#: Reasons of OpenSSL's errors for bytes that are not TLS.
_NO_TLS = ("HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER")


def connect_error(address: str, error: BaseException) -> ConnectError:
    """Make the error for a connection that failed; the message names the innermost reason.

    Args:
        address: URL of the server without credentials, and the proxy; see `Settings.address`.
        error: The failure.
    """
    reason: BaseException = error
    while (deeper := reason.__cause__ or reason.__context__) is not None:
        reason = deeper
    if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
        text = f"{USE_HTTP} ({reason.reason})"
    elif isinstance(reason, OSError) and (reason.errno or 0) > 0 and not isinstance(reason, ssl.SSLError):
        text = os.strerror(reason.errno or 0)
    else:
        text = str(reason) or type(reason).__name__
    return ConnectError(f"cannot connect to {address}: {text}")


def connect_timeout(address: str, seconds: float | None) -> TimeoutExceeded:
    """Make the error for a connection that took longer than `seconds`."""
    waited = f"no connection to {address} within {seconds or 0:g} s"
    return timeout_exceeded("", waited, "connect", seconds, "connecting")


def interrupted(
    address: str, error: BaseException | None = None, *, silent: bool = False
) -> StreamInterrupted:
    """Make the error for a connection that broke after the request was sent, or received invalid bytes.

    Args:
        address: The server; see `connect_error`.
        error: What happened.
        silent: Whether the server has sent nothing, as one does that expects TLS.
    """
    detail = f": {error}" if error is not None and str(error) else ""
    if silent and address.startswith("http:"):
        detail += " (without a response: if it expects TLS, use https in its URL)"
    return StreamInterrupted(f"the connection to {address} broke before the answer was complete{detail}")


def request_headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """Merge the headers given to a transport into our defaults.

    Raises:
        InvalidArgument: A name or a value is not valid in a header.
    """
    from .. import __version__

    headers = {"User-Agent": f"lagent_llms/{__version__}", "Accept-Encoding": "identity"}
    return {**headers, **given_headers(given, api_key)}


def given_headers(given: Mapping[str, str] | None, api_key: str | None) -> dict[str, str]:
    """Make the headers given to a transport, without defaults; raises as `request_headers` does."""
    key = validators.api_key("api_key", api_key)
    bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {**check_headers(bearer), **check_headers(given or {})}


def headers_for(route: Route, given: Mapping[str, str], netrc: tuple[str, str] | None) -> dict[str, str]:
    """Make the headers of every request over `route`.

    Credentials in the base URL precede those in `given`, which precede those of netrc.

    Args:
        route: The route to the server.
        given: The headers of the transport.
        netrc: User and password of the server's entry in netrc.
    """
    login = {} if netrc is None else {"Authorization": basic_auth(*netrc)}
    urls = {name: value for name, value in route.headers.items() if name != "Host"}
    return {"Host": route.headers["Host"], **login, **given, **urls}


@dataclass(frozen=True, slots=True)
class Routes:
    """How to reach the servers of a transport.

    Attributes:
        servers: The route, the headers of every request and the TLS context for each server, by its URL.
        secrets: What no error may show.
        proxies: For messages, ' through the proxy …' by the server's URL, where there is one.
    """

    servers: Mapping[str, tuple[Route, dict[str, str], ssl.SSLContext | None]] = field(repr=False)
    secrets: Secrets
    proxies: Mapping[str, str] = field(repr=False)


def direct_routes(
    urls: Sequence[str],
    headers: Mapping[str, str] | None,
    api_key: str | None,
    verify: bool | str | os.PathLike[str],
    *,
    environment_proxy: bool,
    proxies: Mapping[str, str] | None = None,
) -> Routes:
    """Find how to reach each server without a session.

    Args:
        urls: Base URLs of the servers.
        headers: The headers given to the transport.
        api_key: The API key given to the transport.
        verify: Whether and how certificates are checked.
        environment_proxy: Whether the proxies that the environment names are used.
        proxies: The caller's proxies; see `read_environment`.

    Raises:
        InvalidArgument: A header is not valid.
        ConfigError: A proxy or a CA bundle cannot be used.
    """
    sent = request_headers(headers, api_key)
    contexts: dict[bool | str, ssl.SSLContext] = {}
    routes = {}
    secrets: list[str] = []
    for url in urls:
        environment = read_environment(ascii_url(url), verify, proxies)
        route = find_route(url, environment.proxy if environment_proxy or proxies else None)
        context = None
        if route.tls or route.tunnel:
            if environment.verify not in contexts:
                contexts[environment.verify] = tls_context(environment.verify) or ssl.create_default_context()
            context = contexts[environment.verify]
        routes[url] = route, headers_for(route, sent, environment.auth), context
        secrets += [*route.passwords, *(environment.auth or ())[1:]]
        secrets += Secrets.in_headers({**routes[url][1], **route.login})
    proxies = {url: route.via for url, (route, _, _) in routes.items()}
    return Routes(routes, Secrets.of(*secrets), proxies)


def tls_context(verify: bool | str | os.PathLike[str]) -> ssl.SSLContext | None:
    """Make the context that checks a server's certificate; None for the system's store.

    Args:
        verify: False checks nothing, a path names a CA bundle or a directory of certificates.

    Raises:
        ConfigError: The path cannot be used.
    """
    if verify is True:
        return None
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    path = os.fspath(verify)
    try:
        if os.path.isdir(path):
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"verify={path!r}: cannot be used as certificates: {error}") from error
