"""HTTP requests, the heads of responses, and error responses as our errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

import msgspec

from ..errors import (
    AuthenticationError,
    ContextLengthExceeded,
    InvalidArgument,
    NotFound,
    RateLimited,
    ServerError,
)
from ..extra_fields import with_extra_fields
from ..params import PARAMETERS
from ..untrusted import DECODE_ERRORS, read_json
from .endpoints import public_url
from .limits import DEFAULT_LIMITS, Limits

__all__ = [
    "HTTPRequest",
    "Refusal",
    "ResponseHead",
    "check_headers",
    "is_error_body",
    "read_refusal",
    "server_error",
    "wrong_answer",
]

#: Error codes for a prompt that exceeds the context length.
_CONTEXT_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "input_length_error"})
#: Fields of OpenAI-style bodies, and the parameters that they carry.
_CARRIED: Mapping[str, str] = {
    **{row.wire: row.name for row in PARAMETERS.values() if row.wire},
    **dict.fromkeys(("max_completion_tokens", "max_new_tokens"), "max_new_tokens"),
    "stop": "stop_words",
    **{name: name for name in ("chat_template_kwargs", "logprobs", "reasoning_effort", "response_format")},
    **{name: name for name in ("tools", "tool_choice", "adapter_id", "adapter_source", "min_new_tokens")},
}
_JSON: Mapping[str, str] = {"Content-Type": "application/json"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TYPES: Mapping[int, type[ServerError]] = {
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFound,
    429: RateLimited,
}
#: Longest message and code of an error response that are kept, in characters.
_MAX_MESSAGE_SIZE, _MAX_CODE_SIZE = 2000, 200
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
#: Longest wait in seconds that is reported for Retry-After: timers and dates take no more than some years.
_MAX_RETRY_AFTER = 366 * 86400.0


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

    def with_fields(self, extra: Mapping[str, Any]) -> HTTPRequest:
        """Make a copy with further fields in its JSON body.

        Raises:
            InvalidArgument: The body has a field already.
        """
        body = with_extra_fields(msgspec.json.decode(self.body or b"{}"), extra, _CARRIED)
        return replace(self, body=msgspec.json.encode(body))

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
        InvalidArgument: They are no mapping, or a name or a value is not valid in one header.
    """
    if not isinstance(headers, Mapping):
        raise InvalidArgument("headers: allowed is a dict of names and values", argument="headers")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgument(f"headers: {name!r} is not a header name", argument="headers")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):  # not shown: it may be secret
            raise InvalidArgument(
                f"headers: the value of {name!r} must be a line of Latin-1 text", argument="headers"
            )
    return {name.title(): value for name, value in headers.items()}


@dataclass(slots=True)
class ResponseHead:
    """The status and the headers of a response.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
        base: Base URL that the request was sent to; the exchange sets it.
        path: Path of the request; the exchange sets it.
        via: For messages, the proxy; the exchange sets it.
        limits: The most that the server may send; the exchange sets it.
    """

    status: int
    headers: Mapping[str, str]
    base: str = ""
    path: str = ""
    via: str = ""
    limits: Limits = DEFAULT_LIMITS

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is labelled as a stream of server-sent events; see `EventSplitter`."""
        return self.headers.get("content-type", "").strip().lower().startswith("text/event-stream")

    @property
    def where(self) -> str:
        """The URL of the request without credentials, and the proxy, for messages."""
        return public_url(self.base) + self.path + self.via

    @property
    def retry_after(self) -> float | None:
        """The Retry-After header in seconds (RFC 9110), at most a year; None without a valid one."""
        value = self.headers.get("retry-after", "").strip()
        if not value:
            return None
        if _SECONDS.fullmatch(value):
            return min(float(value), _MAX_RETRY_AFTER)
        from email.utils import parsedate_to_datetime  # imported here: slow, and rarely needed

        try:
            date = parsedate_to_datetime(value)
            if date.tzinfo is None:
                date = date.replace(tzinfo=timezone.utc)
            seconds = (date - datetime.now(timezone.utc)).total_seconds()
        except (ValueError, OverflowError, TypeError, IndexError):  # not a date, or one out of range
            return None
        return min(max(0.0, seconds), _MAX_RETRY_AFTER)


class Refusal(msgspec.Struct, frozen=True):
    """The content of an error response.

    Attributes:
        message: The server's message.
        code: The server's error code or type, '' without one.
    """

    message: str
    code: str = ""


#: Fields that hold the message of an error, or the object that has it.
_MESSAGES = (
    "message", "error", "detail", "errors", "msg", "error_msg", "error_message", "errorMessage", "status_msg",
    "faultstring", "text", "title",
)  # fmt: skip
_INNER = ("error", "detail", "fault", "base_resp")
_CODES = ("code", "error_type", "type", "error_code", "status_code")


def is_error_body(found: object) -> bool:
    """Whether decoded JSON is an error in any of the forms that servers use."""
    if not isinstance(found, Mapping):
        return False
    if found.get("object") == "error" or found.get("type") == "error" or found.get("error_code"):
        return True
    status = found.get("base_resp")
    if isinstance(status, Mapping) and status.get("status_code"):
        return True
    named = [found.get(key) for key in _MESSAGES[:-2] if key != "message"]
    return any(named) or isinstance(found.get("message"), str)


def read_refusal(body: bytes, head: ResponseHead | None = None) -> Refusal:
    """Parse an error body in any of the forms that servers use.

    Known forms are ``{"error": {"message", "code", "type"}}``, ``{"error": "text", "error_type"}``, the same
    flat (``{"message", "code"}``), FastAPI's ``{"detail": …}``, an event of a stream, a page and plain text.

    Args:
        body: The body.
        head: Head of its response: with it, the message names a proxy, a redirect and a wrong base URL.
    """
    try:
        refusal = _refusal(read_json(body.strip().removeprefix(b"data:")))
    except (*DECODE_ERRORS, ValueError):  # ValueError: an integer that cannot be printed
        refusal = Refusal(body.decode("utf-8", "replace").strip())
    message = refusal.message[:_MAX_MESSAGE_SIZE]
    if head is not None and (head.status >= 300 or body.lstrip()[:1] != b"{"):
        from .diagnosis import diagnose  # here: rarely needed

        message = diagnose(head, body, message)
    return Refusal(message, refusal.code[:_MAX_CODE_SIZE])


def _refusal(data: object) -> Refusal:
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], Mapping):
        data = data[0]
    if isinstance(data, Mapping):
        code = next((data[key] for key in _CODES if data.get(key)), None)
        for key in _INNER:
            inner = data.get(key)
            if isinstance(inner, Mapping) and inner:
                refusal = _refusal(inner)
                return refusal if refusal.code or code is None else Refusal(refusal.message, str(code))
        message = next((data[key] for key in _MESSAGES if data.get(key)), None)
        if isinstance(message, list):  # FastAPI: one entry a field
            message = "; ".join(_field_error(item) for item in message)
        metadata = data.get("metadata")  # OpenRouter: the error of the server behind it
        if message and isinstance(metadata, Mapping) and metadata.get("raw"):
            message = f"{message}: {str(metadata['raw'])[:1000]}"
        if data.get("param") == "input_tokens":  # vLLM, which has no code for it
            code = "context_length_exceeded"
        if message:
            return Refusal(str(message), "" if code is None else str(code))
    return Refusal(msgspec.json.encode(data).decode())


def _field_error(item: object) -> str:
    if not isinstance(item, Mapping):
        return str(item)
    place = item.get("loc", [])
    where = ".".join(map(str, place if isinstance(place, list) else [place]))
    message = item.get("msg") or item.get("message") or item
    return f"{where}: {message}" if where else str(message)


def wrong_answer(head: ResponseHead, problem: str) -> ServerError:
    """Make the error for a successful response that is not what was asked for.

    Args:
        head: Head of the response.
        problem: The field that is wrong, and how.
    """
    return ServerError(
        f"{head.where}: the server's answer is wrong, not the request: {problem}", status_code=head.status
    )


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
    reason = refusal.message[:_MAX_MESSAGE_SIZE] or "no reason given"
    message = f"{where}: {reason}" if where else reason
    if status is not None:
        message += f" (HTTP {status})"
    too_long = refusal.code.lower() in _CONTEXT_CODES
    kind = ContextLengthExceeded if too_long else _TYPES.get(status or 0, ServerError)
    return kind(message, status_code=status, code=refusal.code, retry_after=retry_after)
