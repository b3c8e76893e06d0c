"""Refuses requests that a page of another site makes a browser send, whatever FastAPI's version.

A browser sends a "simple" POST across sites without asking first, so CORS does not stop it: the page cannot
read the answer, but the model runs. FastAPI before 0.132 also parses a body without a Content-Type as JSON.

A page whose own name resolves to this machine (DNS rebinding) is of the same site for the browser: only the
``Host`` header shows it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence

__all__ = ["LOCAL_ORIGIN", "cross_site_refusal", "host_refusal", "is_loopback"]

#: Origins of this machine's own pages, which may always call.
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


#: The host of a ``Host`` header, and the port.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[^\[\]:/@]+)(:\d+)?")


def host_refusal(
    hosts: Sequence[bytes], bound: str, allowed: Collection[str] = ()
) -> tuple[int, str, str] | None:
    """Status, message and code of the refusal of a request by its ``Host`` header; None where it may pass.

    Names and addresses of loopback pass, and the address that the connection was made to.

    Args:
        hosts: The values of the request's ``Host`` headers.
        bound: The address that the connection was made to.
        allowed: Further names and addresses, without a port; '*' is every name.
    """
    if "*" in allowed or not hosts:  # a browser always sends one
        return None
    given = hosts[0].decode("latin-1")
    found = _HOST.fullmatch(given)
    name = "" if found is None else _canonical(found[1].strip("[]").rstrip("."))
    if len(hosts) == 1 and name and (is_loopback(name) or name in map(_canonical, (bound, *allowed))):
        return None
    message = f"the host {given!r} is not one of this server; --allowed-host (Limits.allowed_hosts) allows it"
    return 403, message, "host_not_allowed"


def is_loopback(name: str) -> bool:
    """True for the names and addresses of loopback."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _canonical(name: str) -> str:
    """A name in lower case, an address in its shortest form; an IPv4 address in an IPv6 one as the former."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name.lower()
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def cross_site_refusal(
    method: str, headers: Mapping[bytes, bytes], origins: Sequence[str] = ()
) -> tuple[int, str, str] | None:
    """Status, message and code of the refusal of a request; None where it may pass.

    Clients that are no browsers send neither `Origin` nor `Sec-Fetch-Site`, and pass.

    Args:
        method: The request's method; GET, HEAD and OPTIONS change nothing and pass.
        headers: Its headers, names in lower case.
        origins: Further origins whose pages may call; '*' is every origin.
    """
    if method in _SAFE_METHODS:
        return None
    if not _may_call(headers, origins):
        origin = headers.get(b"origin", b"null").decode("latin-1")
        message = (
            f"the page's origin {origin!r} may not call this server; --origin (Limits.origins) allows it"
        )
        return 403, message, "cross_site"
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    if has_body and not headers.get(b"content-type"):
        return 415, "the body has no Content-Type; send Content-Type: application/json", "no_content_type"
    return None


def _may_call(headers: Mapping[bytes, bytes], origins: Sequence[str]) -> bool:
    site = headers.get(b"sec-fetch-site")
    if site in (b"same-origin", b"none"):  # a page can neither set nor change this header
        return True
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin:
        return site is None
    if "*" in origins or origin in origins or re.fullmatch(LOCAL_ORIGIN, origin):
        return True
    # Plain HTTP from another machine: browsers leave Sec-Fetch-Site out. A proxy may have changed Host.
    hosts = {headers.get(name, b"").decode("latin-1") for name in (b"host", b"x-forwarded-host")}
    return origin.partition("://")[2] in hosts - {""}
