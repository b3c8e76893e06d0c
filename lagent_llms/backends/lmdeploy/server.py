"""`LMDeployServer` and `AsyncLMDeployServer`: start lmdeploy's api_server as a child process and call it.

The child and all its descendants end with this process, however it ends (`lagent_llms.child.process`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, Literal

from ... import validators
from ...child.ports import check_free, check_port, connect_host
from ...child.process import Child
from ...child.startup import Startup
from ...errors import ConnectError, InvalidArgument, LLMError, ServerStartError, StreamInterrupted
from ...http.backend import AsyncHTTPBackend, HTTPBackend
from ...params import Timeout
from .command import Installation, check_flags, check_path, find_installation, flag_arguments
from .endpoints import ChildEndpoints
from .server_copy import CopiedAsClient
from .versions import check_version

if TYPE_CHECKING:
    import aiohttp
    import requests
    from typing_extensions import Unpack

    from ...core.request import Request
    from ...http.async_client import AsyncHTTPSource
    from ...http.sync_client import HTTPSource
    from ...params import CallKwargs
    from ...schema import Piece
    from ...templates import TemplateSpec

__all__ = ["RANDOM_KEY", "AsyncLMDeployServer", "LMDeployServer"]


class _RandomKey:
    def __repr__(self) -> str:
        return "RANDOM_KEY"


#: Default of ``api_key``: a new random key for every server.
RANDOM_KEY: Final = _RandomKey()

_PROBE = Timeout(connect=2, first_token=10, idle=10)


class _ServerCore(CopiedAsClient):
    """lmdeploy's api_server as a child process, and its client.

    A copy, pickled or not, is a client of the same server, which never ends it. A pickle includes the
    `api_key` that was given; with a random key it is refused.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        model_name: Name under which the server serves the model; None (default) is `path`.
        server_name: Address the server listens on; the default, all interfaces, is why a key is the default.
        server_port: Port; 0 takes a free one.
        tp: Number of GPUs for tensor parallelism.
        log_level: The server's log level: 'CRITICAL', 'ERROR', 'WARNING', 'INFO' or 'DEBUG'.
        serve_cfg: Further flags of ``lmdeploy serve api_server``, such as ``{"backend": "pytorch"}``.
        api_key: API key that the server requires; random by default, None for none. The key does not show
            in the process list, in reprs, logs or errors.
        command: Program, or Python interpreter with arguments, that stands for ``lmdeploy``, such as
            ``["/opt/lmdeploy/bin/python", "-m", "lmdeploy"]``. None (default) uses the lmdeploy of this
            environment, else the one on PATH.
        env: Environment variables to set for the server (``{"CUDA_VISIBLE_DEVICES": "1"}``).
        start_timeout: Longest wait until the server is ready, in seconds.
        stop_timeout: Seconds between SIGTERM and SIGKILL when the server is stopped.
        restart: Start a dead server again on the next call.
        log_file: File to append the server's log to; None (default) keeps only the last lines.
        progress: Called with progress messages during the start; None (default) shows them at the terminal.
        headers: See `HTTPCore`.
        max_retries: See `HTTPCore`.
        verify: See `HTTPCore`.
        session: See `HTTPCore`; proxies of the environment are not used.
        meta_template: See `LLMCore`; None lets the server apply the model's own template.
        session_len: See `LLMCore`; also sent to the server, unless `serve_cfg` sets it.
        max_concurrency: See `LLMCore`.
        **kwargs: `limits` of `HTTPCore`; defaults of any parameter of `GenerationParams` and `CallOptions`.

    Raises:
        ServerStartError: The server cannot be started, or (synchronous class only) does not become ready.
        MissingDependency: lmdeploy is not installed.
        InvalidArgument: The installed lmdeploy does not have a flag, or a value is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        server_name: str = "0.0.0.0",
        server_port: int = 23333,
        tp: int = 1,
        log_level: str = "WARNING",
        serve_cfg: Mapping[str, Any] | None = None,
        *,
        api_key: str | _RandomKey | None = RANDOM_KEY,
        command: str | Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        start_timeout: float = 600.0,
        stop_timeout: float = 5.0,
        restart: bool = False,
        log_file: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
        headers: Mapping[str, str] | None = None,
        max_retries: int | None = None,
        verify: bool | str | os.PathLike[str] = True,
        session: requests.Session | aiohttp.ClientSession | None = None,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[CallKwargs],
    ) -> None:
        flags = check_flags(serve_cfg or {})
        self.path = os.fspath(path)
        self.server_name = server_name
        self.server_port = check_port(server_name, server_port)
        self.api_key = (
            secrets.token_hex(24)
            if isinstance(api_key, _RandomKey)
            else validators.api_key("api_key", api_key)
        )
        scheme = "https" if flags.get("ssl") else "http"
        super().__init__(
            f"{scheme}://{connect_host(server_name)}:{self.server_port}",
            model_name,
            api_key=self.api_key,
            headers=headers,
            max_retries=max_retries,
            verify=verify,
            session=session,
            meta_template=meta_template,
            session_len=session_len,
            max_concurrency=max_concurrency,
            **kwargs,
        )
        self._transport_options["environment_proxy"] = False  # the server is local
        self.endpoints: ChildEndpoints = ChildEndpoints(
            self.endpoints.urls[0], connect_host(server_name), self.server_port
        )
        if session_len is not None and not {"session_len", "session-len"} & flags.keys():
            flags["session_len"] = session_len
        self._installation = find_installation(command)
        if self._installation.version:
            check_version(self._installation.version)
        self._command = _command(self, tp, log_level, flags)
        self._child_options: dict[str, Any] = {
            "env": env,
            "grace": stop_timeout,
            "secrets": () if self.api_key is None else (self.api_key,),
            "log_file": log_file,
        }
        self._start_timeout, self._progress = start_timeout, progress
        self._restart = restart
        self._ready = False
        self._start_lock = threading.Lock()
        self._start_child()
        self._on_started()

    @classmethod
    def constructor_names(cls) -> frozenset[str]:
        """See `ParameterDefaults.constructor_names`; the URL follows from `server_name` and `server_port`."""
        return super().constructor_names() - {"url"}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, url={self.endpoints.urls[0]!r})"

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return self.endpoints.urls[0]

    @property
    def pid(self) -> int:
        """Process id of the server process."""
        return self._child.pid

    @property
    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return self._child.log_tail

    def _on_started(self) -> None:
        """Hook at the end of the constructor: the process runs, but may not be ready."""

    def _start_child(self) -> None:
        check_free(self.server_name, self.server_port)
        check_path(self.path)
        command, stdin = self._command
        self._child = self.endpoints.child = Child(command, stdin=stdin, **self._child_options)

    def _startup(self) -> Startup:
        return Startup(
            self._child, "lmdeploy's api_server", timeout=self._start_timeout, on_progress=self._progress
        )

    def _needs_start(self) -> bool:
        """True if the server is not known to be ready, or has to be started again.

        Raises:
            ServerStartError: The server has ended and `restart` is off.
            LLMError: This object is closed.
        """
        self.check_open()
        ended = self._child.ended()
        if ended is not None:
            if not (self._restart and self._child.is_owner):
                raise self._child.failure(f"lmdeploy's api_server {ended}")
            self._ready = False
        return not self._ready

    def explain(self, error: LLMError) -> LLMError:
        """Return `error`, or an error that names how the server ended if that is its cause.

        See `LLMCore.explain`.
        """
        if not isinstance(error, (ConnectError, StreamInterrupted)):
            return error
        if (ended := self._child.ended()) is None:
            return error
        reason = f"lmdeploy's api_server {ended}"
        explained: LLMError
        if error.partial:
            explained = StreamInterrupted(f"{error}: {reason}", partial=error.partial)
        else:
            explained = self._child.failure(reason)
        explained.__cause__ = error
        return explained

    def _serves(self, models: Sequence[str]) -> bool:
        """True if `models` includes ours; otherwise another server listens on the port."""
        return (self.model_name or self.path) in models


def _command(core: _ServerCore, tp: int, log_level: str, flags: Mapping[str, Any]) -> tuple[list[str], bytes]:
    """Command line of the server, and the bytes for its standard input."""
    if isinstance(tp, bool) or not isinstance(tp, int) or tp < 1:
        raise InvalidArgument(f"tp={tp!r}: allowed is an integer of 1 or more (GPUs)", argument="tp")
    installation: Installation = core._installation
    arguments = [
        *("serve", "api_server", core.path),
        *("--server-name", core.server_name),
        *("--server-port", str(core.server_port)),
        *("--tp", str(tp)),
        *("--log-level", log_level),
        *(() if core.model_name is None else ("--model-name", core.model_name)),
        *flag_arguments(flags, installation.flags),
    ]
    return installation.with_hidden(arguments, [] if core.api_key is None else [f"--api-keys={core.api_key}"])


class LMDeployServer(_ServerCore, HTTPBackend):
    """Run lmdeploy's api_server as a child process, called synchronously.

    The constructor returns when the server is ready. The arguments: see `_ServerCore`.
    """

    def models(self) -> list[str]:
        """Names of the models and adapters that the server serves."""
        self._await_ready()
        return super().models()

    def _free(self) -> None:
        """Stop the server and all its descendants, and wait until they are gone."""
        super()._free()
        self._child.stop()

    def _on_started(self) -> None:
        try:
            self._await_ready()
        except BaseException:  # Ctrl-C too: no server may be left without an object that stops it
            self.close()
            raise

    def _open(self, request: Request) -> HTTPSource[Piece]:
        self._await_ready()
        return super()._open(request)

    def _ids(self, text: str, timeout: Timeout) -> list[int]:
        self._await_ready()
        return super()._ids(text, timeout)

    def _await_ready(self) -> None:
        if not self._needs_start():
            return
        # A fork starts no server, and a thread that it has not may hold the lock for ever.
        with self._start_lock if self._child.is_owner else nullcontext():
            if not self._needs_start():
                return
            if self._child.ended() is not None:
                self._child.stop()
                self._start_child()
            try:
                with self._startup() as startup:
                    while not self._is_ready():
                        time.sleep(startup.poll_delay())
            except ServerStartError:
                self._child.stop()
                raise
            self._ready = True

    def _is_ready(self) -> bool:
        if not self.endpoints.reach_child():
            return False
        from ...http.sync_client import HTTPTransport

        probe = HTTPTransport(self.endpoints, **self._transport_options)
        try:
            models = probe.fetch(self.models_call(), _PROBE)
            return self._serves(models)
        except LLMError:
            return False
        finally:
            probe.close()


class AsyncLMDeployServer(_ServerCore, AsyncHTTPBackend):
    """Asynchronous `LMDeployServer`.

    The constructor starts the server; `ready`, ``async with`` and the first call wait until it is ready.
    """

    async def ready(self) -> None:
        """Wait until the server is ready.

        Raises:
            ServerStartError: The server did not become ready; it has been stopped.
        """
        while self._needs_start():
            if not self._child.is_owner:  # see `LMDeployServer._await_ready`
                await self._await_ready()
            elif self._start_lock.acquire(blocking=False):
                try:
                    await self._await_ready()
                finally:
                    self._start_lock.release()
            else:  # a task, maybe of another loop, holds it
                await asyncio.sleep(0.05)

    async def models(self) -> list[str]:
        """Names of the models and adapters that the server serves."""
        await self.ready()
        return await super().models()

    async def _free(self) -> None:
        """See `LMDeployServer._free`."""
        self._child.request_stop()
        await super()._free()
        await asyncio.to_thread(self._child.stop)

    async def __aenter__(self) -> AsyncLMDeployServer:
        await self.ready()
        return self

    async def _open(self, request: Request) -> AsyncHTTPSource[Piece]:
        await self.ready()
        return await super()._open(request)

    async def _ids(self, text: str, timeout: Timeout) -> list[int]:
        await self.ready()
        return await super()._ids(text, timeout)

    async def _await_ready(self) -> None:
        if self._child.ended() is not None:
            await asyncio.to_thread(self._child.stop)
            await asyncio.to_thread(self._start_child)
        try:
            with self._startup() as startup:
                while not await self._is_ready():  # noqa: ASYNC110  (a process has no event to wait for)
                    await asyncio.sleep(startup.poll_delay())
        except ServerStartError:
            await asyncio.to_thread(self._child.stop)
            raise
        self._ready = True

    async def _is_ready(self) -> bool:
        if not await asyncio.to_thread(self.endpoints.reach_child):
            return False
        from ...http.async_client import AsyncHTTPTransport

        probe = AsyncHTTPTransport(self.endpoints, **self._transport_options)
        try:
            models = await probe.fetch(self.models_call(), _PROBE)
            return self._serves(models)
        except LLMError:
            return False
        finally:
            await probe.aclose()
