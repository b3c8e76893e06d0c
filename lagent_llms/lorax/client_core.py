"""`ClientCore`: the constructor that `Client` and `AsyncClient` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..copying import CopiedByArguments
from ..errors import InvalidArgument
from ..http.endpoints import Endpoints, check_url, public_url
from ..http.session_argument import check_session
from ..params import Timeout
from ..retry import Attempts, RetryBudget, RetryPolicy
from .error_types import ValidationError

if TYPE_CHECKING:
    import aiohttp
    import requests

__all__ = ["ClientCore"]

#: Longest connect timeout, in seconds, unless a `Timeout` object sets it.
_CONNECT_TIMEOUT = 5.0
#: Longest Retry-After that is honoured, in seconds.
_MAX_WAIT = 8.0


class ClientCore(CopiedByArguments):
    """Base of the clients of a LoRAX server. Clients can be pickled and copied.

    Args:
        base_url: Base URL of the server.
        headers: Headers of every request; ``{"Authorization": "Bearer TOKEN"}`` for Predibase and for private
            adapters.
        cookies: Cookies of every request.
        timeout: Longest wait for the next part of a response, in seconds (default 60), streams included;
            connecting takes at most 5 s of it. A `lagent_llms.Timeout` sets each limit, None waits forever.
        max_session_retries: Number of retries after a failed connect or status 429, 502, 503 or 504 (default
            2). A request is not repeated once its response has begun, nor if the connection broke after the
            request was sent.
        verify: False accepts any certificate; a path names a file of trusted certificates.
        session: Sends the requests: a `requests.Session`; for `AsyncClient` an `aiohttp.ClientSession`. See
            `lagent_llms.http.backend.HTTPCore`.

    Raises:
        ValidationError: An argument is not allowed.
    """

    #: The type of `session` that is allowed.
    session_type: ClassVar[str] = "requests.Session"

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout: float | Timeout | None = 60,
        *,
        max_session_retries: int = 2,
        verify: bool | str = True,
        session: requests.Session | aiohttp.ClientSession | None = None,
    ) -> None:
        try:
            check_session(session, self.session_type)
            self.base_url = check_url("base_url", base_url)
            self._timeout = _to_timeout(timeout)
        except InvalidArgument as error:
            raise ValidationError(str(error), argument=error.argument) from None
        retries = max_session_retries
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ValidationError(
                f"`max_session_retries` must be an integer of 0 or more, got {retries!r}",
                argument="max_session_retries",
            )
        self.headers = _checked_strings("headers", headers)
        self.cookies = _checked_strings("cookies", cookies)
        self.timeout = timeout
        self.max_session_retries = retries
        sent = dict(self.headers)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._transport_options: dict[str, Any] = {
            "headers": sent,
            "verify": verify,
            **({} if session is None else {"session": session}),
        }
        self._endpoints = Endpoints([self.base_url])
        self._retry = RetryPolicy(
            max_retries=retries,
            max_wait=_MAX_WAIT,
            statuses=(429, 502, 503, 504),
            broken_connections=False,
            timeouts=False,
        )
        self._retry_budget = RetryBudget()

    def _attempts(self) -> Attempts:
        """The attempts of one call."""
        return Attempts(self._retry, self._retry_budget, total=self._timeout.total)

    def __repr__(self) -> str:
        """The server's URL and the names of headers and cookies, without their values."""
        shown = [repr(public_url(self.base_url))]
        shown += [
            f"{name}={sorted(getattr(self, name))}" for name in ("headers", "cookies") if getattr(self, name)
        ]
        return f"{type(self).__name__}({', '.join(shown)}, timeout={self.timeout!r})"


def _to_timeout(timeout: Any) -> Timeout:
    if timeout is None:
        return Timeout(connect=_CONNECT_TIMEOUT, first_token=None, idle=None)
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidArgument(
            f"`timeout` must be a number of seconds above 0, a Timeout or None, got {timeout!r}",
            argument="timeout",
        )
    return Timeout(connect=min(_CONNECT_TIMEOUT, timeout), first_token=timeout, idle=timeout)


def _checked_strings(name: str, given: Any) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValidationError(
            f"`{name}` must be a dict of strings, got {type(given).__name__}", argument=name
        )
    for key, value in given.items():
        if not isinstance(key, str) or not isinstance(value, str) or "\n" in value or "\r" in value:
            raise ValidationError(f"`{name}[{key!r}]` must be a string of one line", argument=name)
    return dict(given)
