"""Say what a response means that is none of the API's: a page, a redirect, a compressed body. Pure.

The words of a page serve the message only; errors are classified by status and code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from .endpoints import USE_HTTPS, public_url

__all__ = ["diagnose"]

_PAGE = re.compile(
    rb"\s*(?:\xef\xbb\xbf)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype html|html|head|body|\?xml)", re.I | re.S
)
_TITLE = re.compile(rb"<(title|h1)[^<>]*>(.*?)</\1>", re.I | re.S)
_TEXT = re.compile(rb"(<)(.*)", re.S)
_NEEDS_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS|speaking plain HTTP", re.I
)
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
#: Bytes of a body that are searched for what a page says: a search takes up to the square of their number.
_MAX_SEARCHED = 1 << 13
#: Headers that only a proxy or a gateway sends -> its name.
_PROXIES = {
    "cf-ray": "Cloudflare",
    "x-amz-cf-id": "CloudFront",
    "x-envoy-upstream-service-time": "Envoy",
    "x-kong-response-latency": "Kong",
    "x-squid-error": "Squid",
}


class Head(Protocol):
    """The part of `ResponseHead` that is read here."""

    status: int
    headers: Mapping[str, str]
    base: str
    path: str


def diagnose(head: Head, body: bytes, message: str) -> str:
    """Complete the message of an error response with what is probably wrong.

    Args:
        head: Head of the response.
        body: Its body.
        message: What the body says.

    Returns:
        `message` if the API sent it; for a page, a redirect or a compressed body a description of it.
    """
    location = head.headers.get("location", "")
    body = body[:_MAX_SEARCHED]
    page = _PAGE.match(body) is not None
    json = body.lstrip()[:1] in (b"{", b"[", b'"')
    if 300 <= head.status < 400 and location:
        found = (f"{message}; " if json else "") + _redirect(head, location)
    elif page:
        title = _TITLE.search(body) or _TEXT.search(body)
        text = (
            "" if title is None else re.sub(r"<[^<>]*>|\s+", " ", title[2].decode("utf-8", "replace")).strip()
        )
        found = f"a page instead of JSON{f' ({text[:200]!r})' if text else ''}"
    elif name := next((name for magic, name in _COMPRESSED.items() if body.startswith(magic)), ""):
        found = f"the body is compressed ({name}), but its Content-Encoding does not say so"
    else:
        found = message
    sender = "" if json else _sender(head)
    if sender:
        found = f"{found}, sent by {sender}" if found else f"no reason given by {sender}"
    advice = _advice(
        head, body, page=page, routed=json and b"Not Found" not in body and b"Method" not in body
    )
    return f"{found}; {advice}" if advice else found


def _redirect(head: Head, location: str) -> str:
    """Name the target of a redirect, and the base URL that it means."""
    target = urljoin(head.base + head.path, location)
    shown = public_url(target.partition("?")[0])
    moved = f"the server redirects to {shown}, and redirects are not followed"
    given, base = urlsplit(head.base), shown.removesuffix(head.path)
    found = urlsplit(base)
    elsewhere = (found.netloc, found.path.rstrip("/")) != (given.netloc, given.path.rstrip("/"))
    if base == shown and (head.path or elsewhere):
        return f"{moved}: a login page in between, or the path of the base URL is wrong"
    why = "https instead of http: " if (given.scheme, found.scheme) == ("http", "https") else ""
    return f"{moved}: {why}the base URL should be {base}"


def _sender(head: Head) -> str:
    """Name the program that sent the response, and the proxies that passed it on."""
    server, via = head.headers.get("server", "")[:80], head.headers.get("via", "")[:80]
    known = next((name for header, name in _PROXIES.items() if header in head.headers), "")
    names = [server] if server else []
    if known and known.lower() not in server.lower():
        names.append(known)
    return " ".join(names) + (f" (via {via})" if via else "")


def _advice(head: Head, body: bytes, *, page: bool, routed: bool) -> str:
    """Say what to change, '' if that is not known; `routed` if the API itself has answered."""
    status = head.status
    if _NEEDS_TLS.search(body):
        return USE_HTTPS
    if status in (404, 405) and not routed:
        return f"no such route: is the path of the base URL ({public_url(head.base)}) right?"
    if status in (502, 503, 504) and not routed:
        return "a proxy in between does not reach the server behind it"
    if page and status == 407:
        return "the proxy needs credentials"
    if page and status == 413:
        return "a proxy in between limits the size of requests"
    if page and status in (401, 403):
        return "a proxy in between refuses the request"
    if page and status < 300:
        return "the base URL is that of a web page or of a proxy's login page, not of the API"
    return ""
