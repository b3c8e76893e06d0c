"""What `Client` and `AsyncClient` share: the server, what is sent with every request, and what is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InvalidArgument
from ..http.endpoints import Endpoints, check_url, public_url
from ..http.retry import RetryPolicy
from ..http.session_argument import check_session
from ..params import Timeout
from .error_types import ValidationError
from .protocol import Secrets

if TYPE_CHECKING:
    import aiohttp
    import requests

__all__ = ["ClientCore"]

#: Longest wait for a connection in seconds, where `timeout` is not shorter.
_CONNECT = 5.0


class ClientCore:
    """A LoRAX server.

    Args:
        base_url: Its base URL.
        headers: Sent with every request. ``{"Authorization": "Bearer TOKEN"}`` for Predibase, and for private
            adapters.
        cookies: Sent with every request.
        timeout: Longest wait for the next piece of an answer in seconds, in streams as well; a connection has
            5 s at most. A `lagent_llms.Timeout` sets them apart, None waits for ever.
        max_session_retries: How often a request is sent again when no connection could be made or the
            server says 429, 502, 503 or 504; never once the answer has begun, nor when the connection broke
            after the request was sent.
        verify: False trusts any certificate; a path names a file of trusted ones.
        session: Sends the requests: a `requests.Session`, for `AsyncClient` an `aiohttp.ClientSession`. See
            `lagent_llms.http.backend.HTTPCore`.

    Raises:
        ValidationError: An argument is not usable.
    """

    #: The kind of `session` that is allowed.
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
            self._timeout = _limits(timeout)
        except InvalidArgument as error:
            raise ValidationError(str(error), argument=error.argument) from None
        retries = max_session_retries
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ValidationError(
                f"`max_session_retries` must be an integer of 0 or more, got {retries!r}",
                argument="max_session_retries",
            )
        self.headers = _texts("headers", headers)
        self.cookies = _texts("cookies", cookies)
        self.timeout = timeout
        self.max_session_retries = retries
        self._secrets = (*Secrets.in_headers(self.headers), *self.cookies.values())
        sent = dict(self.headers)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self._transport_options: dict[str, Any] = {
            "headers": sent,
            "retry": RetryPolicy(retries, after_connect_timeout=False),
            "verify": verify,
            **({} if session is None else {"session": session}),
        }
        self._endpoints = Endpoints([self.base_url])

    def __repr__(self) -> str:
        """The server; of headers and cookies only the names."""
        shown = [repr(public_url(self.base_url))]
        shown += [
            f"{name}={sorted(getattr(self, name))}" for name in ("headers", "cookies") if getattr(self, name)
        ]
        return f"{type(self).__name__}({', '.join(shown)}, timeout={self.timeout!r})"

    def secrets(self, *more: str | None) -> Secrets:
        """What must not show in messages: headers, cookies, and `more`."""
        return Secrets.of(*self._secrets, *more)


def _limits(timeout: Any) -> Timeout:
    if timeout is None:
        return Timeout(connect=_CONNECT, first_token=None, idle=None)
    if isinstance(timeout, Timeout):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidArgument(
            f"`timeout` must be a number of seconds above 0, a Timeout or None, got {timeout!r}",
            argument="timeout",
        )
    return Timeout(connect=min(_CONNECT, timeout), first_token=timeout, idle=timeout)


def _texts(name: str, given: Any) -> dict[str, str]:
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
