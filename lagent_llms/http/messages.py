"""HTTP requests, the heads of responses, and error responses as our errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

import msgspec

from ..errors import (
    AuthenticationError,
    ContextLengthExceeded,
    InvalidArgument,
    NotFound,
    RateLimited,
    ServerError,
)

__all__ = ["HTTPRequest", "Refusal", "ResponseHead", "check_headers", "read_refusal", "server_error"]

#: Error codes for a prompt that exceeds the context length.
_CONTEXT_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "input_length_error"})
_JSON: Mapping[str, str] = {"Content-Type": "application/json"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TYPES: Mapping[int, type[ServerError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFound,
    429: RateLimited,
}


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A request, without the server's address.

    Attributes:
        method: GET or POST.
        path: Path and query, '/v1/completions'.
        body: The body, None without one.
        headers: Headers of this request; they take precedence over those of the transport.
    """

    method: str
    path: str
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def json(cls, path: str, body: object, headers: Mapping[str, str] | None = None) -> HTTPRequest:
        """Make a POST request with `body` as JSON.

        Raises:
            InvalidArgument: The body or the headers cannot be sent.
        """
        try:
            data = msgspec.json.encode(body)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgument(f"the request cannot be written as JSON: {error}") from error
        return cls("POST", path, data, {**_JSON, **check_headers(headers)} if headers else _JSON)

    def encode(self, base: str, headers: Mapping[str, str]) -> bytes:
        """Serialize the request for HTTP/1.1.

        Args:
            base: Precedes the path in the request target: the base URL's path, for a proxy the whole URL.
            headers: Headers of the transport; those of this request take precedence.
        """
        lines = [f"{self.method} {base + self.path or '/'} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in {**headers, **self.headers}.items()]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (self.body or b"")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `headers` with their names in title case.

    Raises:
        InvalidArgument: A name or a value is not valid in one header.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgument(f"headers: {name!r} is not a header name", argument="headers")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):  # not shown: it may be secret
            raise InvalidArgument(
                f"headers: the value of {name!r} must be a line of Latin-1 text", argument="headers"
            )
    return {name.title(): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The status and the headers of a response.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[str, str]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream of server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def retry_after(self) -> float | None:
        """The Retry-After header in seconds (RFC 9110, both forms), None without one."""
        value = self.headers.get("retry-after", "").strip()
        if not value:
            return None
        try:
            return max(0.0, float(value))
        except ValueError:
            pass
        from email.utils import parsedate_to_datetime  # imported here: slow, and rarely needed

        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())


class Refusal(msgspec.Struct, frozen=True):
    """The content of an error response.

    Attributes:
        message: The server's message.
        code: The server's error code or type, '' without one.
    """

    message: str
    code: str = ""


def read_refusal(body: bytes) -> Refusal:
    """Parse an error body in any of the forms that servers use.

    Known forms are ``{"error": {"message", "code", "type"}}``, ``{"error": "text", "error_type"}``, the same
    flat (``{"message", "code"}``), FastAPI's ``{"detail": …}`` and plain text.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Refusal(body.decode("utf-8", "replace").strip()[:2000])
    return _refusal(data)


def _refusal(data: object) -> Refusal:
    if isinstance(data, Mapping):
        for key in ("error", "detail"):
            inner = data.get(key)
            if isinstance(inner, Mapping):
                return _refusal(inner)
        message = data.get("message") or data.get("error") or data.get("detail") or data.get("text")
        code = data.get("code") or data.get("error_type") or data.get("type") or data.get("error_code")
        if isinstance(message, list):  # FastAPI: one entry a field
            message = "; ".join(_field_error(item) for item in message)
        if message:
            return Refusal(str(message), "" if code is None else str(code))
    return Refusal(msgspec.json.encode(data).decode()[:2000])


def _field_error(item: object) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    where = ".".join(str(part) for part in item.get("loc", ()))
    return f"{where}: {item.get('msg', item)}"


def server_error(
    status: int | None, refusal: Refusal, *, where: str = "", retry_after: float | None = None
) -> ServerError:
    """Make the error for an error response, classified by its status and code and never by its message.

    Args:
        status: HTTP status, None without one.
        refusal: The content of the response.
        where: Server and route, for the message.
        retry_after: Seconds the server asks to wait.
    """
    reason = refusal.message or "no reason given"
    message = f"{where}: {reason}" if where else reason
    if status is not None:
        message += f" (HTTP {status})"
    too_long = refusal.code.lower() in _CONTEXT_CODES
    kind = ContextLengthExceeded if too_long else _TYPES.get(status or 0, ServerError)
    return kind(message, status_code=status, code=refusal.code, retry_after=retry_after)
