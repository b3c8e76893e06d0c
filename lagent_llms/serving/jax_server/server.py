"""`JAXServer`: serves a JAX model at /instruct, /chat, /status and the OpenAI-compatible routes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backends.jax.pipeline import EMBEDDED_MODEL  # first: it names the extra if JAX is missing
from ...errors import InvalidArgument
from ...jax_engine import Engine, FunctionEngine, ModelConfig, check_dtype
from ..app import make_app
from ..cross_site import is_loopback
from ..host import Host
from ..limits import Limits
from ..logs import configure_logs
from ..metrics import available_cores, memory_usage
from ..pages.mount import PageMount
from ..pages.source import PageDefaults
from .config import JAXServerConfig
from .easydel_names import EasyDeLNames
from .foreign_model import ForeignModel
from .forwarding import Forwarding
from .generation_functions import default_params
from .partitioning import check_shapes, read_params
from .routes import native_routes
from .threads import LazyThreadPool

if TYPE_CHECKING:
    from types import TracebackType

    from ..pages.page import Page

__all__ = ["JAXServer"]

_log = logging.getLogger("lagent_llms.serving")


class JAXServer(Forwarding, ForeignModel, EasyDeLNames):
    """A JAX model, used in process or served over HTTP. Made by `load` or `load_from_params`.

    The ``forward_…`` methods, `process_chat_history` and `configure_generate_functions` may be overridden.

    Args:
        engine: Decodes requests; with None every response is ``{"status": "down"}``.
        config: None, a dict of changes, or an object with the attributes of `JAXServerConfig`.
        limits: Limits on HTTP requests; None takes the defaults of `Limits`.

    Attributes:
        config: The configuration.
        app: The FastAPI application; routes may be added before `fire`.
        number_of_served_request_until_last_up_time: Number of `forward_…` calls answered so far.

    Raises:
        ConfigError: `config` has an unknown key, or is not a configuration.
        InvalidArgument: A value of the configuration is out of range.
    """

    def __init__(
        self,
        engine: Engine | FunctionEngine | None = None,
        config: Any = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.config = JAXServerConfig.of(config)
        self.number_of_served_request_until_last_up_time = 0
        self._started_at = time.monotonic()
        self._host: Host | None = None
        self._limits = limits = limits or Limits()
        limits.allowed_hosts = (*limits.allowed_hosts, self.config.host)
        threads = LazyThreadPool(limits.max_requests)
        self.app = make_app(limits, threads.shutdown, ready=lambda: self.ready, stats=self._stats)
        self.app.include_router(native_routes(self, threads))
        if engine is not None:
            self._use_engine(engine)
        self._pages = PageMount(self.app, self)

    @property
    def page_defaults(self) -> PageDefaults:
        """Initial values of the pages' advanced options."""
        config = self.config
        max_new_tokens = min(config.max_new_tokens, config.max_length)
        return PageDefaults(config.system, config.temperature, max_new_tokens, max_new_tokens)

    @property
    def name(self) -> str:
        """The model's name; 'no model' if none is loaded."""
        return "no model" if self.engine is None else self.engine.path.name

    @cached_property
    def gradio_app_chat(self) -> Page:
        """The chat page, to launch without the HTTP server, which serves it at /gradio_chat."""
        from ..pages.page import chat_page

        return chat_page(self)

    @cached_property
    def gradio_app_instruct(self) -> Page:
        """The instruct page, to launch without the HTTP server, which serves it at /gradio_instruct."""
        from ..pages.page import instruct_page

        return instruct_page(self)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        model: Any = None,
        tokenizer: Any = None,
        config_model: Any = None,
        add_params_field: bool = False,
        config: Any = None,
        init_shape: Sequence[int] = (1, 1),
        *,
        limits: Limits | None = None,
    ) -> JAXServer:
        """Load a Hugging Face model directory, or an EasyDeL checkpoint for `model`.

        Args:
            path: The directory, or with `model` the checkpoint file; None loads the embedded model.
            model: A model of another library, as in `load_from_params`; None for a directory. The arguments
                `tokenizer`, `config_model`, `add_params_field` and `init_shape` are used only with a `model`.
            tokenizer: The model's tokenizer.
            config_model: The model's configuration.
            add_params_field: True passes the parameters to the model as ``{"params": …}``.
            config: None, a dict of changes, or an object with the attributes of `JAXServerConfig`.
            init_shape: (batch size, length) for ``model.init_weights``, to check the checkpoint's shapes.
            limits: Limits on HTTP requests; None takes the defaults of `Limits`.

        Raises:
            ModelLoadError: The model or the checkpoint cannot be loaded.
            ConfigError: `config` has an unknown key, or is not a configuration.
            InvalidArgument: A value of the configuration is out of range, or `tokenizer` or `config_model`
                was given without a `model`.
        """
        settings = JAXServerConfig.of(config)
        if model is not None:
            params = read_params(path or "", check_dtype(settings.dtype))
            check_shapes(model, params, init_shape)
            return cls.load_from_params(
                model, config_model, settings, tokenizer, params, add_params_field, limits=limits
            )
        if tokenizer is not None or config_model is not None:
            raise InvalidArgument(
                "tokenizer and config_model need a model, but model=None: a Hugging Face directory "
                "has its own",
                argument="model",
            )
        directory = Path(path) if path is not None else EMBEDDED_MODEL
        context_len = ModelConfig.from_directory(directory).max_positions
        if settings.max_length == JAXServerConfig.max_length:
            settings = replace(settings, max_length=min(context_len, settings.max_length))
        elif settings.max_length > context_len:
            raise InvalidArgument(
                f"max_length={settings.max_length}: allowed is at most {context_len} (tokens), "
                "the model's context length",
                argument="max_length",
            )
        engine = Engine.load(
            directory,
            dtype=settings.dtype,
            max_len=settings.max_length,
            decode_chunk=settings.max_compile_tokens,
            mesh_axes_names=settings.mesh_axes_names,
            mesh_axes_shape=settings.mesh_axes_shape,
            seed=settings.seed,
            max_queue=None if limits is None else limits.max_queue,
        )
        return cls(engine, settings, limits=limits)

    @classmethod
    def load_from_params(
        cls,
        model: Any,
        config_model: Any = None,
        config: Any = None,
        tokenizer: Any = None,
        params: Any = None,
        add_params_field: bool = False,
        *,
        limits: Limits | None = None,
    ) -> JAXServer:
        """Load a model of another library.

        Args:
            model: Has ``generate`` (as EasyDeL's and transformers' Flax models), or returns logits if called.
            config_model: The model's configuration; its ``get_partition_rules()`` decides how parameters are
                split over the mesh. None replicates them.
            config: None, a dict of changes, or an object with the attributes of `JAXServerConfig`.
            tokenizer: A tokenizer with transformers' interface.
            params: The model's parameters; None takes those stored in the model.
            add_params_field: True passes the parameters to the model as ``{"params": …}``; ignored for nnx
                modules.
            limits: Limits on HTTP requests; None takes the defaults of `Limits`.

        Raises:
            ConfigError: `config` has an unknown key, or is not a configuration.
            InvalidArgument: The model cannot generate, or its tokenizer or parameters are missing.
        """
        stored = default_params(model)
        params = stored if params is None else params
        if params is None or tokenizer is None:
            missing = "tokenizer" if tokenizer is None else "params"
            raise InvalidArgument(
                f"{missing}=None: the model stores no {missing}, so this argument is needed", argument=missing
            )
        wrap = add_params_field and not hasattr(stored, "flat_state")
        server = cls(None, config, limits=limits)
        server.shard_params({"params": params} if wrap else params, config_model)
        server._use_engine(server._foreign_engine(model, tokenizer, max_queue=server._limits.max_queue))
        return server

    def status(self) -> dict[str, Any]:
        """Answer GET /status: configuration, devices, cores, memory in bytes, counters, uptime in seconds."""
        import jax

        stats = self._stats() if self.ready else None
        return {
            "config": asdict(self.config),
            "devices": [str(device) for device in jax.local_devices()],
            "number_of_backends": jax.local_device_count(),
            "cores_in_use": available_cores(),
            "status": "Ready" if self.ready else "down",
            "number_of_served_request_until_last_up_time": self.number_of_served_request_until_last_up_time,
            "number_of_served_prompts": stats.requests_served if stats is not None else 0,
            "tokens": stats.completion_tokens if stats is not None else 0,
            "memory": memory_usage(),
            "uptime": time.monotonic() - self._started_at,
        }

    def fire(self, *, pages: bool = True, warm_up: bool = True) -> None:
        """Start the HTTP server in a thread; return once it accepts connections.

        Args:
            pages: True serves /gradio_chat and /gradio_instruct as well.
            warm_up: True compiles the graphs of usual requests at once, not at the first ones.

        Raises:
            MissingDependency: `pages` is True and gradio is not installed.
            ServerStartError: The server cannot listen on the configured address.
        """
        if self._host is None:
            if warm_up and isinstance(self.engine, Engine):
                self.engine.warm_up(greedy=self.config.temperature == 0)
            self._pages.prepare(enabled=pages)
            config = self.config
            if config.logging:
                configure_logs("text")
            if not (self._limits.has_key or is_loopback(config.host)):
                _log.warning(
                    "host=%r is reachable from other machines, without an API key: pass "
                    "limits=Limits(api_key=…), or host='127.0.0.1'",
                    config.host,
                )
            host = Host(self.app, config.host, config.port, logs_configured=config.logging)
            host.start()
            self._host = host

    @property
    def url(self) -> str | None:
        """The HTTP server's URL; None while it is stopped."""
        return None if self._host is None else self._host.url

    def end(self) -> None:
        """Answer the running requests, then stop the HTTP server; `fire` may start it again."""
        if self._host is not None:
            self._pages.shutdown()
            self._host.stop()
            self._host = None

    def close(self) -> None:
        """Stop the HTTP server and free the model."""
        self.end()
        self._funcs_generated = False
        if self.engine is not None:
            self.engine.close()

    def __enter__(self) -> JAXServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
