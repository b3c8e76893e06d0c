"""How requests reach a server, through a proxy or not: whom to connect to and what to say. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..errors import ConfigError
from .endpoints import public_url

__all__ = ["Route", "route"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one server.

    Attributes:
        host: Whom to connect to: the server, or the proxy.
        port: At which port.
        tls: Whether that connection begins with TLS.
        base: What stands before the path in a request.
        headers: What every request to this server has to say.
        login: What a proxy has to be told before that.
        tunnel: What a proxy is asked for before TLS with the server begins; b'' for nothing.
        server: Name of the server, which its certificate has to prove.
    """

    host: str
    port: int
    tls: bool
    base: str
    headers: dict[str, str]
    login: dict[str, str]
    tunnel: bytes
    server: str

    def target(self, path: str) -> str:
        """What to ask for to get `path`."""
        return self.base + path or "/"


def route(url: str, proxy: str | None = None) -> Route:
    """The way to the server at `url`.

    Args:
        url: Its base URL; a name and a password in it are sent.
        proxy: URL of the proxy to go through.

    Raises:
        ConfigError: The proxy is none for HTTP.
    """
    server = urlsplit(url)
    name, port = server.hostname or "", server.port or _PORTS[server.scheme]
    netloc = server.netloc.rpartition("@")[2]
    base = quote(server.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
    headers = {"Host": netloc, **_login("Authorization", server)}
    if proxy is None:
        return Route(name, port, server.scheme == "https", base, headers, {}, b"", name)
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if through.scheme not in _PORTS:
        raise ConfigError(f"the proxy {public_url(proxy)} of the environment: http and https can be used")
    where = through.hostname or "", through.port or _PORTS[through.scheme], through.scheme == "https"
    login = _login("Proxy-Authorization", through)
    if server.scheme == "http":  # the proxy is sent the whole URL
        return Route(*where, f"http://{netloc}{base}", {**headers, **login}, login, b"", name)
    address = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}", *map(": ".join, login.items()), "\r\n"]
    return Route(*where, base, headers, login, "\r\n".join(lines).encode("latin-1"), name)


def _login(header: str, parts: SplitResult) -> dict[str, str]:
    """The header with the name and the password of a URL."""
    user, at, _ = parts.netloc.rpartition("@")
    if not at:
        return {}
    return {header: f"Basic {base64.b64encode(unquote(user).encode()).decode()}"}
