"""Run an ASGI application in a thread of this process (a fork after JAX has started would deadlock)."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ..child.ports import check_free, check_port, connect_host
from ..errors import MissingDependency, ServerStartError

try:
    import uvicorn

    from .connections import ConnectionLimits, limited_protocol
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "server") from error

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Host"]


class Host:
    """Serves `app` over HTTP from `start` to `stop`; also a context manager.

    Args:
        app: The ASGI application.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.
        connections: Limits on its connections; None takes the defaults.
        logs_configured: True if the program has configured the log of uvicorn; False lets uvicorn write its
            warnings to stderr.

    Attributes:
        url: The server's URL as seen from this machine.
    """

    def __init__(
        self,
        app: Any,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        connections: ConnectionLimits | None = None,
        logs_configured: bool = False,
    ) -> None:
        port = check_port(host, port)
        self.url = f"http://{connect_host(host)}:{port}"
        self._address = (host, port)
        limits = connections or ConnectionLimits()
        logs: dict[str, Any] = {"log_config": None} if logs_configured else {"log_level": "warning"}
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=limited_protocol(limits),
            ws="none",
            timeout_keep_alive=limits.keep_alive_seconds,
            access_log=False,
            server_header=False,
            **logs,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """True while the server answers requests."""
        return self._thread is not None and self._thread.is_alive() and self._server.started

    def start(self) -> None:
        """Start the server in a thread; return once it accepts connections.

        Raises:
            ServerStartError: The server cannot listen on this address, or its startup failed.
        """
        check_free(*self._address)
        self._thread = threading.Thread(target=self._run, name="http-server", daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive() and not self._server.started:
                raise ServerStartError(f"the server at {self.url} did not start; see its log for the reason")

    def wait(self) -> None:
        """Block until the server has stopped; Ctrl-C interrupts the wait."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Refuse new requests, finish the running ones and stop. May be called twice."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # uvicorn could not listen, and logged why
            self._server.run()

    def __enter__(self) -> Host:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
