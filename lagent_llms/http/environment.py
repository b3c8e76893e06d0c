"""Read proxy, certificates and credentials for one server from the environment, as requests does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

__all__ = ["Environment", "read_environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """Proxy, certificates and credentials for one server.

    Attributes:
        proxy: URL of the proxy, with a scheme and with reserved characters of its credentials
            percent-encoded; None to connect directly.
        verify: True checks certificates against the system's store (SSL_CERT_FILE and SSL_CERT_DIR
            included), False checks nothing, a path names a CA bundle or a directory of certificates.
        auth: User and password of the server's entry in netrc, None without one.
    """

    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True
    auth: tuple[str, str] | None = field(default=None, repr=False)


def read_environment(
    url: str,
    verify: bool | str | os.PathLike[str] = True,
    proxies: Mapping[str, str] | None = None,
) -> Environment:
    """Read the environment once, for all requests to `url`.

    Proxies come from HTTP_PROXY, HTTPS_PROXY and ALL_PROXY (upper or lower case, with or without a scheme)
    unless NO_PROXY (domains, ports, CIDR blocks) excludes the server; a CA bundle from REQUESTS_CA_BUNDLE or
    CURL_CA_BUNDLE; credentials from netrc. The rules are those of requests 2.32.

    Args:
        url: Base URL of the server.
        verify: The caller's setting; any value but True takes precedence over the environment's bundle.
        proxies: The caller's proxies, as requests takes them; they take precedence over the environment's.
    """
    given = verify if isinstance(verify, bool) else os.fspath(verify)
    if not proxies and not _is_relevant(url):
        return Environment(verify=given)
    from requests import Session
    from requests.utils import get_netrc_auth, select_proxy

    with Session() as session:
        settings = session.merge_environment_settings(url, dict(proxies or {}), False, given, None)
    proxy = select_proxy(url, settings["proxies"])
    return Environment(
        proxy=_normalize_proxy(proxy) if proxy else None,
        verify=True if settings["verify"] is None else settings["verify"],
        auth=get_netrc_auth(url),
    )


def _is_relevant(url: str) -> bool:
    """Return False if the environment has no setting for `url`; then requests is not imported."""
    if sys.platform in ("darwin", "win32"):  # these have proxy settings outside the environment
        return True
    if any(name.lower().endswith("_proxy") for name in os.environ):
        return True
    if url.lower().startswith("https") and {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        return True
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    return any(os.path.exists(os.path.expanduser(file)) for file in files)


def _normalize_proxy(proxy: str) -> str:
    """Return the URL of a proxy with a scheme, and its credentials percent-encoded.

    Unencoded, the characters ``#``, ``/``, ``?`` and ``@`` would end the credentials too early.
    """
    scheme, _, rest = proxy.rpartition("://")
    login, at, address = rest.rpartition("@")
    return f"{scheme or 'http'}://{quote(login, safe='%:!$&()*+,;=~')}{at}{address}"
