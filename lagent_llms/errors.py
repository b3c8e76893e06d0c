"""Every way a call can fail, as one tree of exceptions that pickle.

::

    LLMError
    ├── InvalidArgument (ValueError)       a value this library refuses before anything is sent
    ├── UnknownParameter (TypeError)       a name no backend knows
    ├── UnsupportedParameter               a name this backend cannot honour
    ├── ConfigError                        a configuration that cannot be used
    ├── TemplateError                      a bad template, or a dialog it cannot render
    ├── MissingDependency (ImportError)    an extra that is not installed
    ├── SessionError
    │   ├── SessionClosed                  continuing a session that is not open
    │   ├── SessionBusy                    two calls at once on one open session
    │   └── SessionOutOfLimit              history + prompt + max_new_tokens > session_len
    ├── ModelLoadError                     weights, config or tokenizer that cannot be loaded
    ├── ServerStartError                   a child server that did not start (carries the log's tail)
    ├── TransportError
    │   ├── ConnectError                   no connection to the address
    │   └── TimeoutExceeded (TimeoutError) the next piece of the answer did not come in time
    ├── ServerError                        the server refused or failed (status_code, code)
    │   ├── RateLimited                    carries retry_after
    │   ├── ContextLengthExceeded          the prompt does not fit the model
    │   ├── AuthenticationError
    │   └── NotFound
    ├── StreamInterrupted                  the answer ended early (carries the partial text)
    ├── InvalidOutput (ValueError)         the answer is not of the type wanted (carries the completion)
    └── BatchError                         one prompt of a batch failed (carries the other results)

The message is the only positional argument and every other one is an optional keyword, so that the default
pickling of exceptions works for all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "BatchError",
    "ConfigError",
    "ConnectError",
    "ContextLengthExceeded",
    "InvalidArgument",
    "InvalidOutput",
    "LLMError",
    "MissingDependency",
    "ModelLoadError",
    "ModelStatusCode",
    "NotFound",
    "RateLimited",
    "ServerError",
    "ServerStartError",
    "SessionBusy",
    "SessionClosed",
    "SessionError",
    "SessionOutOfLimit",
    "StreamInterrupted",
    "TemplateError",
    "TimeoutExceeded",
    "TransportError",
    "UnknownParameter",
    "UnsupportedParameter",
]


class ModelStatusCode(IntEnum):
    """State of a stream, with the numbers that lagent's loops compare with."""

    END = 0
    STREAM_ING = 1
    SESSION_READY = 2
    SERVER_ERR = -1
    SESSION_CLOSED = -2
    SESSION_OUT_OF_LIMIT = -3
    SESSION_INVALID_ARG = -4


class LLMError(Exception):
    """Base of everything this library raises on purpose.

    Attributes:
        status: The `ModelStatusCode` that a stream with ``on_error='status'`` ends with.
        partial: The text received before the call failed, '' when there was none.
        attempts: How often the call was tried.
    """

    status: ClassVar[ModelStatusCode] = ModelStatusCode.SERVER_ERR
    partial: str = ""
    attempts: int = 1

    def __init__(self, message: str = "") -> None:
        super().__init__(message)


class InvalidArgument(LLMError, ValueError):
    """A value that is refused before anything is sent.

    Attributes:
        argument: Name of the argument, '' when the whole input is meant.
    """

    status = ModelStatusCode.SESSION_INVALID_ARG

    def __init__(self, message: str = "", *, argument: str = "") -> None:
        super().__init__(message)
        self.argument = argument


class UnknownParameter(LLMError, TypeError):
    """A parameter name that no backend knows; the message suggests the nearest one."""

    status = ModelStatusCode.SESSION_INVALID_ARG


class UnsupportedParameter(LLMError):
    """A known parameter that this backend cannot honour.

    Attributes:
        parameter: Its name.
        backend: The backend's class name.
    """

    status = ModelStatusCode.SESSION_INVALID_ARG

    def __init__(self, message: str = "", *, parameter: str = "", backend: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter
        self.backend = backend


class ConfigError(LLMError):
    """A configuration (file, dict or environment) that cannot be used."""

    status = ModelStatusCode.SESSION_INVALID_ARG


class TemplateError(LLMError):
    """A bad meta template, or a dialog that the template does not allow."""

    status = ModelStatusCode.SESSION_INVALID_ARG


class MissingDependency(LLMError, ImportError):
    """An optional package is missing; the message holds the pip command.

    Attributes:
        extra: The extra of lagent_llms that installs it.
    """

    def __init__(self, message: str = "", *, extra: str = "") -> None:
        super().__init__(message)
        self.extra = extra

    @classmethod
    def of(cls, package: str, extra: str) -> MissingDependency:
        """The error for `package`, which the extra `extra` installs."""
        return cls(f"{package} is not installed; run: pip install 'lagent_llms[{extra}]'", extra=extra)


class SessionError(LLMError):
    """A session that cannot be used for this call.

    Attributes:
        session_id: The session, None when there is none.
    """

    status = ModelStatusCode.SESSION_CLOSED

    def __init__(self, message: str = "", *, session_id: int | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id


class SessionClosed(SessionError):
    """sequence_start=False on a session that is not open."""


class SessionBusy(SessionError):
    """A call on an open session while another one is still running."""

    status = ModelStatusCode.SERVER_ERR


class SessionOutOfLimit(SessionError):
    """history + prompt + max_new_tokens exceed session_len (tokens); nothing was sent."""

    status = ModelStatusCode.SESSION_OUT_OF_LIMIT


class ModelLoadError(LLMError):
    """Weights, config or tokenizer of a model cannot be loaded."""


class ServerStartError(LLMError):
    """A child server did not start, or ended.

    Attributes:
        log_tail: The last lines of its log.
    """

    def __init__(self, message: str = "", *, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n--- last lines of its log ---\n{self.log_tail}" if self.log_tail else message


class TransportError(LLMError):
    """The connection to the server failed."""


class ConnectError(TransportError):
    """No connection could be made."""


class TimeoutExceeded(TransportError, TimeoutError):
    """A connection or the next piece of the answer did not come in time; the message names the parameter.

    Attributes:
        phase: 'connect', 'first_token', 'idle' or 'total': the field of `Timeout` that holds the limit.
        seconds: The limit that was exceeded.
    """

    def __init__(self, message: str = "", *, phase: str = "", seconds: float | None = None) -> None:
        super().__init__(message)
        self.phase = phase
        self.seconds = seconds


class ServerError(LLMError):
    """The server refused or failed.

    Attributes:
        status_code: HTTP status of the response; for gRPC the HTTP status that corresponds to its status. An
            error inside a successful response has the status that its code stands for, if it has such a code.
            None without a status: nothing was sent, or an error in a gRPC stream.
        code: The server's own error code or type, '' when it gave none.
        retry_after: Seconds to wait before the next try, None when the server gave none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        code: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.code = code
        self.retry_after = retry_after


class RateLimited(ServerError):
    """The server has too many requests, or its queue is full."""


class ContextLengthExceeded(ServerError):
    """The prompt does not fit the model's context."""

    status = ModelStatusCode.SESSION_OUT_OF_LIMIT


class AuthenticationError(ServerError):
    """The API key is missing, wrong or has too few rights."""


class NotFound(ServerError):
    """The server does not know the model, adapter or route."""


class StreamInterrupted(LLMError):
    """The answer ended before its final marker; `partial` is the text received so far."""

    def __init__(self, message: str = "", *, partial: str = "") -> None:
        super().__init__(message)
        self.partial = partial


class InvalidOutput(LLMError, ValueError):
    """The answer cannot be read as the type that the caller wants.

    Attributes:
        completion: The whole answer, a `Completion`; None if there is none.
        reason: What is wrong with it, as the validation says it.
    """

    def __init__(self, message: str = "", *, completion: Any = None, reason: str = "") -> None:
        super().__init__(message)
        self.completion = completion
        self.reason = reason


class BatchError(LLMError):
    """At least one prompt of a batch failed; the results of the others are kept.

    Attributes:
        index: Position of the first prompt that failed; its error is ``__cause__`` and ``results[index]``.
        results: One entry for each prompt, in order: its result, or the exception it failed with.
    """

    def __init__(self, message: str = "", *, index: int = 0, results: list[Any] | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.results = results or []


def nearest(name: str, allowed: Iterable[str], cutoff: float = 0.5) -> str:
    """The ', did you mean …?' part of a message about an unknown `name`; '' when no name is similar.

    Args:
        name: The name that is not known.
        allowed: The names that are.
        cutoff: The similarity, from 0 to 1, from which a name is suggested.
    """
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=cutoff)
    return f", did you mean {near[0]!r}?" if near else ""
