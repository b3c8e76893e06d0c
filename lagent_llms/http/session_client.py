"""One request and its response over a `requests.Session` of the caller's.

requests cannot interrupt the wait for a response from another thread, and its time limits restart with every
byte. So each request has a thread that executes the steps (send, read); the caller waits for the outcome of a
step until the deadline of the call.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from requests.utils import get_netrc_auth, select_proxy
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError

from .. import forks
from ..core.deadline import Deadline
from ..errors import ConfigError, LLMError
from .config import connect_error, connect_timeout, interrupted
from .content_encoding import unknown_encoding
from .endpoints import public_url
from .messages import HTTPRequest, ResponseHead
from .proxy import Route, basic_auth, passwords
from .secrets import Secrets, hide_credentials

if TYPE_CHECKING:
    from ..params import Timeout

__all__ = ["SessionChannel", "SessionServer"]

_READ_SIZE = 1 << 16
#: Longest wait for the end of a response whose answer is complete, in seconds; then its connection is closed.
_DRAIN_TIMEOUT = 0.02


class SessionServer:
    """A server that is reached over a session.

    Args:
        session: The caller's session; it is never closed here. In a forked child its idle connections are
            those of the parent, so they are dropped before the first request; all else stays as it is.
        url: Base URL of the server.
        route: The direct route to the server.
        headers: Headers from the backend's arguments, added to those of the session.
        verify: The backend's setting; True uses the session's certificate settings.
        environment_proxy: Whether the session may use a proxy that the environment names.

    Attributes:
        via: The proxy when this object was made, for messages: ' through the proxy …', '' without one.
        address: URL of the server without credentials, and the proxy; for messages.
    """

    def __init__(
        self,
        session: requests.Session,
        url: str,
        route: Route,
        headers: Mapping[str, str],
        *,
        verify: bool | str,
        environment_proxy: bool,
    ) -> None:
        self.session = session
        self._root = f"{'https' if route.tls else 'http'}://{route.headers['Host']}"
        self._route = route
        login = {name: value for name, value in route.headers.items() if name != "Host"}
        self._headers = {**headers, **login}
        self._verify = None if verify is True else verify
        self._environment_proxy = environment_proxy
        self._generation = forks.generation
        proxy = select_proxy(self._root, self._settings(self._root)["proxies"]) or ""
        self._proxy_passwords = passwords(proxy)
        self.via = f" through the proxy {hide_credentials(proxy)}" if proxy else ""
        self.address = public_url(url) + self.via

    def secrets(self) -> list[str]:
        """Return the credentials that requests to the server hold, those of the session included."""
        session, found = self.session, [*self._route.passwords, *self._proxy_passwords]
        params = session.params if isinstance(session.params, Mapping) else {}
        for given in (session.headers, params):
            found += Secrets.in_headers({str(name): str(value) for name, value in given.items()})
        found += Secrets.in_headers(self._headers)
        found += [str(cookie.value) for cookie in session.cookies]
        auth = (get_netrc_auth(self._root) if session.trust_env else None) or session.auth
        user, password = auth if isinstance(auth, tuple) else _login_of(auth)
        return [*found, str(password), basic_auth(str(user), str(password))] if password else found

    def open(self, deadline: Deadline, limits: Timeout, *, fresh: bool = False) -> SessionChannel:
        """Make the channel for one request; nothing is sent yet. The session chooses the connection."""
        return SessionChannel(self, deadline, limits)

    def close(self) -> None:
        """Do nothing: the session belongs to the caller."""

    def has_pools(self) -> bool:
        """Whether requests' own adapter carries the requests, over urllib3's connection pools."""
        try:
            return isinstance(self.session.get_adapter(self._root), requests.adapters.HTTPAdapter)
        except requests.RequestException:  # none is mounted: sending tells it
            return False

    def send(self, request: HTTPRequest, timeout: urllib3.Timeout, hook: Any) -> requests.Response:
        """Send `request` as `requests.Session.request` would, without following redirects.

        Args:
            request: The request.
            timeout: Limits for connecting and for each wait for bytes.
            hook: Called with the response once its head has arrived, after the session's own hooks.
        """
        if self._generation != forks.generation:
            self.session.close()  # only drops idle connections: a closed session opens new ones
            self._generation = forks.generation
        headers = {**self._headers, **request.headers}
        cookies = headers.pop("Cookie", "")
        prepared = self.session.prepare_request(
            requests.Request(
                request.method,
                self._root + self._route.base + request.path,
                headers=headers,
                data=request.body,
                cookies=dict(item.strip().partition("=")[::2] for item in cookies.split(";") if item.strip()),
                # Otherwise requests replaces the backend's credentials by those of the session or netrc.
                auth=_keep_authorization if "Authorization" in headers else None,
            )
        )
        prepared.register_hook("response", hook)  # type: ignore[no-untyped-call]
        settings = self._settings(prepared.url or "")
        limits: Any = timeout  # requests' own adapter takes urllib3's object as well as a pair
        if not self.has_pools():
            limits = (timeout.connect_timeout, timeout.read_timeout)
        return self.session.send(prepared, timeout=limits, allow_redirects=False, **settings)

    def _settings(self, url: str) -> Any:
        settings = self.session.merge_environment_settings(url, {}, True, self._verify, None)
        if not self._environment_proxy:
            settings["proxies"] = dict(self.session.proxies)
        return settings


def _login_of(auth: object) -> tuple[object, object]:
    """Return the user and the password of an object of requests."""
    return getattr(auth, "username", None), getattr(auth, "password", None)


def _keep_authorization(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave the request's Authorization header as it is; used as `auth`."""
    return prepared


class _NotedTimeout(urllib3.Timeout):
    """urllib3 asks for the limit of reading when a connection is free and the request is written.

    Args:
        connect: Limit for connecting, in seconds.
        read: Limit for each wait for bytes, in seconds.
        on_written: Called when the request is written.
    """

    def __init__(self, connect: float | None, read: float | None, on_written: Callable[[], None]) -> None:
        super().__init__(connect=connect, read=read)
        self._on_written = on_written

    def clone(self) -> _NotedTimeout:
        """See `urllib3.Timeout.clone`; each request has its own."""
        return type(self)(self._connect, self._read, self._on_written)  # type: ignore[arg-type]

    @property
    def read_timeout(self) -> float | None:
        """See `urllib3.Timeout.read_timeout`."""
        self._on_written()
        return super().read_timeout


class SessionChannel:
    """One request and its response; the methods are those of `lagent_llms.http.sync_pool.SocketChannel`.

    Before the head of the response has arrived, `interrupt` and `release` return control to the caller at
    once, but requests closes the connection only once the head arrives or the read timeout expires.
    """

    def __init__(self, server: SessionServer, deadline: Deadline, limits: Timeout) -> None:
        self._server = server
        self._deadline = deadline
        self._limits = limits
        self._steps: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: read; False: stop
        # None: the request is written.
        self._outcomes: queue.SimpleQueue[ResponseHead | bytes | BaseException | None] = queue.SimpleQueue()
        self._written = False
        self._head: ResponseHead | None = None
        self._response: requests.Response | None = None
        self._released = False
        self.ended = False
        self.stale = False  # the session does not tell which connections it has kept

    def send(self, request: HTTPRequest) -> ResponseHead:
        """Send `request` and wait for the head of its response."""
        remaining = self._deadline.remaining()
        if remaining == 0:
            raise self._deadline.exceeded(self._server.address)
        limits = (self._limits.connect, remaining)
        connect = min((limit for limit in limits if limit is not None), default=None)
        waits = (self._limits.first_token, self._limits.idle)
        read = None if None in waits else max(limit for limit in waits if limit is not None)
        if self._server.has_pools():  # a pool that blocks may have no free connection yet
            self._deadline.hold()
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run,
            args=(self._run_request, request, _NotedTimeout(connect, read, self._on_written)),
            name="lagent_llms-session",
            daemon=True,
        ).start()
        head = self._outcome()
        self._deadline.resume()  # a double of the adapter may not have asked for its limits
        assert isinstance(head, ResponseHead)
        return head

    def read(self) -> bytes:
        """Read some of the body, b'' at its end."""
        if self.ended:
            return b""
        self._steps.put(True)
        data = self._outcome()
        assert isinstance(data, bytes)
        self.ended = not data
        return data

    def drain(self) -> None:
        """Wait briefly for the end of a response that is no longer needed, to keep its connection."""
        self._steps.put(True)
        with contextlib.suppress(queue.Empty):
            self.ended = self._outcomes.get(timeout=_DRAIN_TIMEOUT) == b""

    def release(self) -> None:
        """Return the connection to the pool if the whole response has been read, else close it."""
        self._released = True
        if not self.ended:
            self._abort()  # first: the request's thread would close the connection without telling the server
        self._steps.put(False)

    def interrupt(self) -> None:
        """Raise `StreamInterrupted` in the thread that waits."""
        self._outcomes.put(interrupted(self._server.address))

    # _run_request and _on_response run in the thread of the request.

    def _run_request(self, request: HTTPRequest, timeout: urllib3.Timeout) -> None:
        response: requests.Response | None = None
        try:
            try:
                response = self._server.send(request, timeout, self._on_response)
            except requests.HTTPError as error:  # from a hook that calls raise_for_status()
                if error.response is None:
                    raise
                response = error.response
                self._on_response(response)
            self._response = response
            self._outcomes.put(self._head or _response_head(response))
            pieces = _iter_body(response)
            while not self._released and self._steps.get():
                self._outcomes.put(next(pieces, b""))
        except BaseException as error:  # noqa: BLE001  (raised in the thread that waits)
            self._outcomes.put(error)
        finally:
            if response is not None:
                response.close()

    def _on_written(self) -> None:
        if not self._written:
            self._written = True
            self._outcomes.put(None)

    def _on_response(self, response: requests.Response, **_: Any) -> None:
        self._head = _response_head(response)
        # Without this, requests would read the whole body of a redirect that is not followed.
        response.headers.pop("location", None)

    def _abort(self) -> None:
        """Interrupt a read in the request's thread, which then closes the connection."""
        response = self._response
        if response is None or not isinstance(response.raw, urllib3.HTTPResponse):
            return
        # Not raw.shutdown(), which only ends reading: the server would see the end only once all forked
        # children have closed their copies of the socket, too.
        with (
            contextlib.suppress(AttributeError, OSError, ValueError),  # the connection is already closed
            socket.socket(fileno=os.dup(response.raw.fileno())) as connection,
        ):
            connection.shutdown(socket.SHUT_RDWR)

    def _outcome(self) -> ResponseHead | bytes:
        """Wait for the outcome of a step."""
        while True:
            remaining = self._deadline.remaining()
            if remaining == 0:
                raise self._deadline.exceeded(self._server.address)
            try:
                outcome = self._outcomes.get(timeout=remaining)
            except queue.Empty:
                continue
            if outcome is None:
                self._deadline.resume()
                continue
            if isinstance(outcome, BaseException):
                raise self._as_llm_error(outcome) from outcome
            return outcome

    def _as_llm_error(self, error: BaseException) -> BaseException:
        """Convert errors of requests and urllib3 to `LLMError`; return others (from a hook) unchanged."""
        address = self._server.address
        if isinstance(error, LLMError):
            return error
        if isinstance(error, requests.ConnectTimeout):
            return connect_timeout(address, self._limits.connect)
        if isinstance(error, (requests.ReadTimeout, ReadTimeoutError)):
            return self._deadline.exceeded(address)
        if self._head is not None:
            kinds = (requests.RequestException, HTTPError, HTTPException, OSError, ValueError)
            return interrupted(address, error) if isinstance(error, kinds) else error
        if isinstance(error, requests.ConnectionError):
            cause = error.args[0] if error.args else None
            cause = getattr(cause, "reason", cause)  # of urllib3's MaxRetryError
            if isinstance(cause, ReadTimeoutError):
                return self._deadline.exceeded(address)
            was_sent = isinstance(cause, (ProtocolError, OSError)) and not isinstance(
                cause, NewConnectionError
            )
            proxy = isinstance(error, (requests.exceptions.ProxyError, requests.exceptions.SSLError))
            if was_sent and not proxy:
                return interrupted(address, error, silent=True)
            return connect_error(address, error)
        if isinstance(error, requests.RequestException):
            return ConfigError(f"session: requests cannot send the request: {error}")
        return interrupted(address, error) if isinstance(error, (HTTPError, HTTPException)) else error


def _response_head(response: requests.Response) -> ResponseHead:
    return ResponseHead(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}
    )


def _iter_body(response: requests.Response) -> Iterator[bytes]:
    """Yield the decoded body as it arrives.

    Raises:
        ServerError: Its encoding is unknown.
    """
    raw = response.raw
    if not isinstance(raw, urllib3.HTTPResponse) or raw.closed or raw.tell():  # a hook may have read it
        yield from response.iter_content(chunk_size=None)
        return
    for encoding in response.headers.get("content-encoding", "").lower().split(","):
        if encoding.strip() not in ("", "identity", *urllib3.HTTPResponse.CONTENT_DECODERS):
            raise unknown_encoding(encoding.strip())
    while data := raw.read1(_READ_SIZE, decode_content=True):
        yield data
