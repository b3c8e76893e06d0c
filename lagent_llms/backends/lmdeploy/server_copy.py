"""Copies of an `LMDeployServer`: clients of its server, which never end it."""

from __future__ import annotations

import copy
from typing import Any

from ...copying import make_copy
from ...http.backend import AsyncHTTPBackend
from .client import AsyncLMDeployClient, LMDeployClient, LMDeployCore

__all__ = ["CopiedAsClient"]

#: Arguments of a server that its copies have, too.
_COPIED = LMDeployCore.constructor_names() - {"url", "model_name", "api_key"}


class CopiedAsClient(LMDeployCore):
    """Base of objects that own a server and are copied as clients of it.

    Attributes:
        api_key: The server's key; a pickle includes it only if it was given as an argument.
    """

    neutral_arguments = LMDeployCore.neutral_arguments | {
        "server_name", "server_port", "log_level", "command", "env", "start_timeout", "stop_timeout",
        "restart", "log_file", "progress",
    }  # fmt: skip
    api_key: str | None

    def __reduce__(self) -> tuple[Any, ...]:
        """See `CopiedByArguments`."""
        if (self._arguments[1].get("api_key", ...) or None) != self.api_key:
            raise TypeError(
                f"cannot pickle {type(self).__name__}: the key of its server is random and stays in this "
                "process; give api_key=…"
            )
        return make_copy, self._copied()

    def __copy__(self) -> LMDeployCore:
        return make_copy(*self._copied())

    def __deepcopy__(self, memo: dict[int, Any]) -> LMDeployCore:
        cls, args, kwargs = self._copied()
        return make_copy(cls, copy.deepcopy(args, memo), copy.deepcopy(kwargs, memo))

    def _copied(self) -> tuple[type[LMDeployCore], tuple[Any, ...], dict[str, Any]]:
        """Class and arguments of a copy."""
        if reason := self.not_copied:
            raise TypeError(f"cannot copy or pickle {type(self).__name__}: {reason}")
        given = {name: value for name, value in self._arguments[1].items() if name in _COPIED}
        copied = _AsyncServerCopy if isinstance(self, AsyncHTTPBackend) else _ServerCopy
        return copied, (self.endpoints.urls[0], self.model_name), {**given, "api_key": self.api_key}


class _CopyCore(LMDeployCore):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._transport_options["environment_proxy"] = False  # the server is local


class _ServerCopy(_CopyCore, LMDeployClient):
    """A copy of an `LMDeployServer`."""


class _AsyncServerCopy(_CopyCore, AsyncLMDeployClient):
    """A copy of an `AsyncLMDeployServer`."""
