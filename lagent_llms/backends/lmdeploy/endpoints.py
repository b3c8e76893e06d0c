"""The URL of an api_server that is a child process."""

from __future__ import annotations

from ...child.listener import Listener
from ...child.process import Child
from ...http.endpoints import Endpoints

__all__ = ["ChildEndpoints"]


class ChildEndpoints(Endpoints):
    """The URL of a child server, at which nothing but that server gets a request.

    Attributes:
        child: The server.
    """

    child: Child

    def __init__(self, url: str, host: str, port: int) -> None:
        super().__init__([url])
        self.only = None  # `take` checks it
        self._listener = Listener(host, port)

    def reach_child(self) -> bool:
        """True if the server listens; see `Listener.belongs_to`."""
        return self._listener.belongs_to(self.child)

    def take(self, preferred: int | None = None) -> str:
        """See `Endpoints.take`; checked before every attempt to send a request.

        Raises:
            ServerStartError: The server has ended, or another process listens at its port.
        """
        if not self.reach_child():
            how = self.child.ended() or f"no longer listens at {self.urls[0]}"
            raise self.child.failure(f"lmdeploy's api_server {how}")
        return super().take(preferred)
