"""`LMDeployServer` and `AsyncLMDeployServer`: lmdeploy's api_server in a child process, and its client.

Nothing of the child outlives this process, however that ends (`lagent_llms.child.process`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ...child.ports import check_free, check_port, reachable
from ...child.process import Child
from ...child.startup import Startup
from ...errors import ConnectError, InvalidArgument, LLMError, ServerStartError, StreamInterrupted
from ...http.backend import AsyncHTTPBackend, HTTPBackend
from ...http.endpoints import Endpoints
from ...http.retry import RetryPolicy
from ...params import Timeout
from .client import LMDeployCore
from .command import Installation, check_flags, find_installation, flag_arguments
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


#: The default of ``api_key``: a new key for every server.
RANDOM_KEY: Final = _RandomKey()

_PROBE = Timeout(connect=2, first_token=10, idle=10)


class _ServerCore(LMDeployCore):
    """lmdeploy's api_server, started in a child process.

    Args:
        path: The model: a directory, or an id of the Hugging Face hub.
        model_name: The name it is served by; None is `path`.
        server_name: The address it listens on. The default is all of them, which is why there is a key.
        server_port: Its port; 0 takes a free one.
        tp: GPUs for tensor parallelism.
        log_level: Of the server: 'CRITICAL', 'ERROR', 'WARNING', 'INFO' or 'DEBUG'.
        serve_cfg: Further flags of ``lmdeploy serve api_server``, such as ``{"backend": "pytorch"}``.
        api_key: The key the server asks for; by default a random one, None for none. The server gets it
            out of sight of ``ps``, and it shows in no repr, log or error.
        command: What stands for ``lmdeploy``: a program, or a Python and what it runs, such as
            ``["/opt/lmdeploy/bin/python", "-m", "lmdeploy"]``. None is that of this environment, else of
            the PATH.
        env: Variables for the server beside this process's own (``{"CUDA_VISIBLE_DEVICES": "1"}``).
        start_timeout: Most seconds it may take to be ready.
        stop_timeout: Seconds it has to end when it is asked to; then it is killed.
        restart: Whether a call that finds the server dead starts it again.
        log_file: Where all it says is written as well; None keeps only the last lines.
        progress: Told how the start goes on; None shows that at the terminal.
        headers: As for `HTTPCore`.
        max_retries: As for `HTTPCore`.
        verify: As for `HTTPCore`.
        session: As for `HTTPCore`; proxies of the environment are not used.
        meta_template: As for every backend; None leaves the template to the server.
        session_len: As for every backend; the server gets it as well, unless `serve_cfg` says otherwise.
        max_concurrency: As for every backend.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Raises:
        ServerStartError: The server cannot be started, or (synchronously) does not become ready.
        MissingDependency: There is no lmdeploy.
        InvalidArgument: A flag it does not know.
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
        max_retries: int = 2,
        verify: bool | str | os.PathLike[str] = True,
        session: requests.Session | aiohttp.ClientSession | None = None,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int = 64,
        **kwargs: Unpack[CallKwargs],
    ) -> None:
        flags = check_flags(serve_cfg or {})
        self.path = os.fspath(path)
        self.server_name = server_name
        self.server_port = check_port(server_name, server_port)
        self.api_key = secrets.token_hex(24) if isinstance(api_key, _RandomKey) else api_key
        scheme = "https" if flags.get("ssl") else "http"
        super().__init__(
            f"{scheme}://{reachable(server_name)}:{self.server_port}",
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
        self._transport_options["environment_proxy"] = False  # the server is here
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
        self._turn = threading.Lock()
        self._child = self._start_child()
        self._started()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, url={self.endpoints.urls[0]!r})"

    @property
    def url(self) -> str:
        """Where the server answers."""
        return self.endpoints.urls[0]

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._child.pid

    @property
    def log_tail(self) -> str:
        """The last lines the server wrote."""
        return self._child.log_tail

    def _started(self) -> None:
        """The process runs, and this object is complete but for the server being ready."""

    def _start_child(self) -> Child:
        check_free(self.server_name, self.server_port)
        _check_path(self.path)
        command, stdin = self._command
        return Child(command, stdin=stdin, **self._child_options)

    def _startup(self) -> Startup:
        return Startup(self._child, "lmdeploy's api_server", timeout=self._start_timeout, say=self._progress)

    def _needs_start(self) -> bool:
        """Whether the server is not known to be ready, or has to be started again.

        Raises:
            ServerStartError: It has died, and shall not be started again.
            LLMError: This object is closed.
        """
        self.check_open()
        ended = self._child.ended()
        if ended is not None:
            if not self._restart:
                raise self._child.failure(f"lmdeploy's api_server {ended}")
            self._ready = False
        return not self._ready

    def _explain(self, error: LLMError) -> LLMError:
        """`error`, or what it comes from when the server has died."""
        if not isinstance(error, (ConnectError, StreamInterrupted)):
            return error
        if (ended := self._child.ended()) is None:
            return error
        reason = f"lmdeploy's api_server {ended}"
        told: LLMError
        if error.partial:
            told = StreamInterrupted(f"{error}: {reason}", partial=error.partial)
        else:
            told = self._child.failure(reason)
        told.__cause__ = error
        return told

    def _serves(self, models: Sequence[str]) -> bool:
        """Whether `models` are those of our server: another one might answer at its port."""
        return (self.model_name or self.path) in models


def _command(core: _ServerCore, tp: int, log_level: str, flags: Mapping[str, Any]) -> tuple[list[str], bytes]:
    """The command of the server, and what goes to its standard input."""
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
    """lmdeploy's api_server in a child process, called synchronously; ready once it is made.

    The arguments are those of its base class.
    """

    def models(self) -> list[str]:
        """Names of the models (and adapters) the server offers."""
        self._await_ready()
        return super().models()

    def _free(self) -> None:
        """End the server and everything it started; returns when all of it is gone."""
        super()._free()
        self._child.stop()

    def _started(self) -> None:
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _open(self, request: Request) -> HTTPSource[Piece]:
        self._await_ready()
        request.explain = self._explain
        return super()._open(request)

    def _ids(self, text: str, timeout: Timeout) -> list[int]:
        self._await_ready()
        return super()._ids(text, timeout)

    def _await_ready(self) -> None:
        if not self._needs_start():
            return
        with self._turn:
            if not self._needs_start():
                return
            if self._child.ended() is not None:
                self._child.stop()
                self._child = self._start_child()
            with self._startup() as startup:
                while not self._answers():
                    time.sleep(startup.pause())
            self._ready = True

    def _answers(self) -> bool:
        from ...http.sync_client import HTTPTransport

        options = {**self._transport_options, "retry": RetryPolicy(0)}
        probe = HTTPTransport(Endpoints(self.endpoints.urls), **options)
        try:
            models = probe.fetch(self.models_call(), _PROBE)
            return self._serves(models)
        except LLMError:
            return False
        finally:
            probe.close()


class AsyncLMDeployServer(_ServerCore, AsyncHTTPBackend):
    """`LMDeployServer`, called with await: the server starts at once, the first call waits until it is ready.

    ``async with`` waits for that as well.
    """

    async def ready(self) -> None:
        """Wait until the server is ready.

        Raises:
            ServerStartError: It did not become so; it is stopped.
        """
        while self._needs_start():
            if not self._turn.acquire(blocking=False):  # another task, perhaps of another loop, waits already
                await asyncio.sleep(0.05)
                continue
            try:
                await self._await_ready()
            finally:
                self._turn.release()

    async def models(self) -> list[str]:
        """Names of the models (and adapters) the server offers."""
        await self.ready()
        return await super().models()

    async def _free(self) -> None:
        """See `LMDeployServer._free`."""
        self._child.let_go()
        await super()._free()
        await asyncio.to_thread(self._child.stop)

    async def __aenter__(self) -> AsyncLMDeployServer:
        await self.ready()
        return self

    async def _open(self, request: Request) -> AsyncHTTPSource[Piece]:
        await self.ready()
        request.explain = self._explain
        return await super()._open(request)

    async def _ids(self, text: str, timeout: Timeout) -> list[int]:
        await self.ready()
        return await super()._ids(text, timeout)

    async def _await_ready(self) -> None:
        if self._child.ended() is not None:
            await asyncio.to_thread(self._child.stop)
            self._child = await asyncio.to_thread(self._start_child)
        try:
            with self._startup() as startup:
                while not await self._answers():  # noqa: ASYNC110  (a process tells by no event)
                    await asyncio.sleep(startup.pause())
        except ServerStartError:
            await asyncio.to_thread(self._child.stop)
            raise
        self._ready = True

    async def _answers(self) -> bool:
        from ...http.async_client import AsyncHTTPTransport

        options = {**self._transport_options, "retry": RetryPolicy(0)}
        probe = AsyncHTTPTransport(Endpoints(self.endpoints.urls), **options)
        try:
            models = await probe.fetch(self.models_call(), _PROBE)
            return self._serves(models)
        except LLMError:
            return False
        finally:
            await probe.aclose()


def _check_path(path: str) -> None:
    """Refuse a path that can be no id of a hub and does not exist."""
    local = path.startswith(("/", "./", "../", "~")) or path.count("/") > 1
    if local and not os.path.exists(path):
        raise ServerStartError(f"path={path!r}: there is no such file or directory")
