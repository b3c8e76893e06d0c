"""Find the route to a server, directly or through a proxy: address, headers and request target. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..errors import ConfigError
from .endpoints import public_url
from .secrets import hide_credentials

__all__ = ["Route", "ascii_url", "basic_auth", "find_route", "passwords"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """The route to one server.

    Attributes:
        host: The host to connect to: that of the server, or of the proxy.
        port: Its port.
        tls: Whether the connection to `host` begins with TLS.
        base: Prefix of the request target before the path of a request.
        headers: Headers of every request: Host, and the credentials in the URLs of the server and the proxy.
        login: The header with the proxy's credentials; empty without credentials.
        server: Host of the server, which its certificate must name.
        server_port: Port of the server.
        tunnel: Whether the request goes through a CONNECT tunnel of the proxy, with TLS inside.
        proxy: URL of the proxy without credentials, '' without one.
        passwords: The passwords in the URLs of the server and the proxy.
    """

    host: str
    port: int
    tls: bool
    base: str
    headers: dict[str, str] = field(repr=False)
    login: dict[str, str] = field(repr=False)
    server: str
    server_port: int
    tunnel: bool
    proxy: str = ""
    passwords: tuple[str, ...] = field(default=(), repr=False)

    @property
    def via(self) -> str:
        """The proxy, for messages: ' through the proxy …', '' without one."""
        return f" through the proxy {self.proxy}" if self.proxy else ""


def find_route(url: str, proxy: str | None = None) -> Route:
    """Find the route to a server.

    Args:
        url: Base URL of the server; a user name and a password in it are sent.
        proxy: URL of the proxy, None to connect directly.

    Raises:
        ConfigError: The host name is invalid, or the proxy is not an HTTP proxy.
    """
    server = urlsplit(ascii_url(url))
    name, port = server.hostname or "", server.port or _PORTS[server.scheme]
    netloc = server.netloc.rpartition("@")[2]
    base = quote(server.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    headers = {"Host": netloc, **_login("Authorization", server)}
    tls = server.scheme == "https"
    if proxy is None:
        return Route(name, port, tls, base, headers, {}, name, port, tunnel=False, passwords=passwords(url))
    try:
        proxy_url = urlsplit(ascii_url(proxy if "://" in proxy else f"http://{proxy}"))
        bad = proxy_url.scheme not in _PORTS or not proxy_url.hostname or proxy_url.port == 0
    except ValueError:  # of the port, or of an IPv6 address
        bad = True
    if bad:
        raise ConfigError(
            f"the proxy {hide_credentials(proxy)!r} (of proxies= or the environment): allowed are URLs of "
            "http and https proxies"
        )
    address = (
        proxy_url.hostname or "",
        proxy_url.port or _PORTS[proxy_url.scheme],
        proxy_url.scheme == "https",
    )
    login = _login("Proxy-Authorization", proxy_url)
    if not tls:  # a request to the proxy has the whole URL as its target
        headers.update(login)
        base = f"http://{netloc}{base}"
    shown = f"{proxy_url.scheme}://{proxy_url.netloc.rpartition('@')[2]}"
    hidden = (*passwords(url), *passwords(proxy))
    return Route(*address, base, headers, login, name, port, tunnel=tls, proxy=shown, passwords=hidden)


def ascii_url(url: str) -> str:
    """Return `url` with an international host name in its ASCII form (IDNA), as requests writes it.

    Raises:
        ConfigError: The name is invalid.
    """
    if url.isascii():
        return url
    from requests import PreparedRequest
    from requests.exceptions import InvalidURL

    prepared = PreparedRequest()
    try:
        prepared.prepare_url(url, None)
    except (InvalidURL, ValueError):  # their texts show the whole URL
        raise ConfigError(f"{public_url(url)}: not a valid host name") from None
    return (prepared.url or url).rstrip("/")


def basic_auth(user: str, password: str) -> str:
    """Return the value of an Authorization header with a user name and a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def passwords(url: str) -> tuple[str, ...]:
    """Return what is secret in a URL, valid or not: the password, alone and after its user name."""
    login = url.rpartition("@")[0]
    login = login.partition("//")[2] or login
    return (login, unquote(login), login.partition(":")[2] or login) if login else ()


def _login(header: str, parts: SplitResult) -> dict[str, str]:
    """Return the header with the credentials in a URL, an empty dict if it has none."""
    if parts.username is None:
        return {}
    return {header: basic_auth(unquote(parts.username), unquote(parts.password or ""))}
