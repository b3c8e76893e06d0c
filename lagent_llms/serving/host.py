"""Run an ASGI application in a thread of this process (a fork after JAX has started would deadlock)."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from ..child.ports import check_free, check_port, connect_host
from ..errors import MissingDependency, ServerStartError

try:
    import uvicorn
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
        log_level: uvicorn's log level.

    Attributes:
        url: The server's URL as seen from this machine.
    """

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0, log_level: str = "warning") -> None:
        port = check_port(host, port)
        self.url = f"http://{connect_host(host)}:{port}"
        self._address = (host, port)
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level=log_level))
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
