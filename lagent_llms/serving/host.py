"""An application served from a thread of this process (forking after JAX has started hangs)."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import uvicorn

from ..child.ports import check_free, check_port, connect_host
from ..errors import ServerStartError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Host"]


class Host:
    """Serves `app` until `stop`.

    Args:
        app: The ASGI application.
        host: The address to listen on.
        port: Its port; 0 takes a free one.
        log_level: Of uvicorn.

    Attributes:
        url: Where it can be reached from this machine.
    """

    def __init__(self, app: Any, host: str = "127.0.0.1", port: int = 0, log_level: str = "warning") -> None:
        port = check_port(host, port)
        self.url = f"http://{connect_host(host)}:{port}"
        self._address = (host, port)
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level=log_level))
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether requests are answered."""
        return self._thread is not None and self._thread.is_alive() and self._server.started

    def start(self) -> None:
        """Listen, in a thread; returns when requests are answered.

        Raises:
            ServerStartError: It cannot listen there.
        """
        check_free(*self._address)
        self._thread = threading.Thread(target=self._run, name="http-server", daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive() and not self._server.started:
                raise ServerStartError(f"the server at {self.url} did not start; its log tells why")

    def wait(self) -> None:
        """Return when the server has ended; Ctrl-C may come meanwhile."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Finish what runs, take nothing new, and end. May be called twice."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # uvicorn's word for "cannot listen"; it has logged the reason
            self._server.run()

    def __enter__(self) -> Host:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
