"""Request ids, the access log, and the response to exceptions that no route handles."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

from ..errors import LLMError
from ..schema import Usage
from .error_responses import ErrorResponse, error_response

__all__ = ["RequestLogMiddleware", "error_event", "logged_response", "note_usage"]

_log = logging.getLogger("lagent_llms.serving")
_access = logging.getLogger("lagent_llms.access")

#: Ids that a client may give a request, with the header ``X-Request-Id``.
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

_Message = MutableMapping[str, Any]


class RequestLogMiddleware:
    """Gives each request an id, logs it, and answers an exception with OpenAI's error format.

    Plain ASGI, as `LimitsMiddleware` is. The response has the id as ``X-Request-Id``.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Callable[[_Message], Awaitable[None]]) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        state["request_id"] = request_id
        started, status, streams = time.perf_counter(), 0, False

        async def observed(message: _Message) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                headers = message["headers"] = [*message.get("headers", ())]
                status = message["status"]
                streams = any(value.startswith(b"text/event-stream") for _, value in headers)
                headers.append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:
            response = logged_response(error, request_id)
            if not status:
                await JSONResponse(response.body, response.status, response.headers)(scope, receive, observed)
            elif streams:
                event = error_event(response).encode()
                await send({"type": "http.response.body", "body": event, "more_body": False})
            else:
                raise  # the server cuts the connection, so that the client sees an incomplete response
        finally:
            if _access.isEnabledFor(logging.INFO):
                _log_request(scope, status or 499, time.perf_counter() - started)  # 499: the client left


def logged_response(error: BaseException, request_id: str) -> ErrorResponse:
    """The response for `error`; failures on this side are logged with the request's id."""
    response = error_response(error, request_id)
    if response.status >= 500:
        expected = isinstance(error, LLMError) and response.status != 500
        _log.error("request %s: %s", request_id, error, exc_info=None if expected else error)
    return response


def note_usage(request: Any, usage: Usage | None) -> None:
    """Note the token counts of a request's call for its line in the access log."""
    if usage is not None:
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        request.state.usage = counts


def error_event(response: ErrorResponse) -> str:
    """An error as the last server-sent event of a stream."""
    return f"data: {json.dumps(response.body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _log_request(scope: Any, status: int, seconds: float) -> None:
    state = scope["state"]
    usage: dict[str, Any] = state.get("usage") or {}
    fields = {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", "other"),
        "status": status,
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "ms": round(1000 * seconds, 1),
        "request_id": state["request_id"],
        "key": state.get("key"),
    }
    tokens = f" {fields['prompt_tokens']}+{fields['completion_tokens']} tokens" if usage else ""
    key = f" key={fields['key']}" if fields["key"] else ""
    _access.info(
        "%s %s %d%s %s ms request=%s%s",
        *(fields["method"], fields["route"], status, tokens, fields["ms"], fields["request_id"], key),
        extra={"request": fields},
    )
