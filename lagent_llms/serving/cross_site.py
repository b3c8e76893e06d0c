"""Refuses requests that a page of another site makes a browser send, whatever FastAPI's version.

A browser sends a "simple" POST across sites without asking first, so CORS does not stop it: the page cannot
read the answer, but the model runs. FastAPI before 0.132 also parses a body without a Content-Type as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

__all__ = ["LOCAL_ORIGIN", "cross_site_refusal"]

#: Origins of this machine's own pages, which may always call.
LOCAL_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


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
