"""The log of a server on stderr: lines of text, or a JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any, Literal

__all__ = ["configure_logs"]

_LOGGERS = ("lagent_llms", "uvicorn")


def configure_logs(form: Literal["text", "json"]) -> None:
    """Write the log of this package, from INFO on, and of uvicorn, from WARNING on, to stderr.

    Args:
        form: 'json' writes an object a line, with the fields of the access log: method, route, status,
            prompt_tokens, completion_tokens, ms, request_id, key.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = _TextFormatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_JSONFormatter() if form == "json" else text)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING if name == "uvicorn" else logging.INFO)


class _TextFormatter(logging.Formatter):
    """A log record as a line, whatever a client's text in it holds; a traceback follows."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (of the superclass)
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class _JSONFormatter(logging.Formatter):
    """A log record as a line of JSON; newlines of a client's text are escaped in it."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(getattr(record, "request", None) or {"message": record.getMessage()}),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)
