"""`JAXServer`: a JAX model behind /instruct, /chat and /status, and behind OpenAI-style routes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from ...backends.jax.pipeline import EMBEDDED_MODEL
from ...errors import InvalidArgument
from ...jax_engine import Engine, FunctionEngine, ModelConfig, check_dtype
from ..app import make_app
from ..host import Host
from ..limits import Limits
from ..metrics import cores, memory
from ..pages.mount import PageMount
from ..pages.source import PageDefaults
from .config import JAXServerConfig
from .foreign_model import ForeignModel
from .forwarding import Forwarding
from .generation_functions import default_params
from .native_routes import native_routes
from .partitioning import check_shapes, read_params
from .threads import Threads

if TYPE_CHECKING:
    from types import TracebackType

    from ..pages.pages import Page

__all__ = ["JAXServer"]


class JAXServer(Forwarding, ForeignModel):
    """A JAX model, with or without HTTP before it. Made by `load` or `load_from_params`.

    Every ``forward_…`` method, `process_chat_history` and `configure_generate_functions` may be overridden;
    the routes call them.

    Args:
        engine: What answers; None as long as there is nothing, and every answer is ``{"status": "down"}``.
        config: None, a dict of updates, or an object with the attributes of `JAXServerConfig`.
        limits: What the HTTP server lets through.

    Attributes:
        config: How it listens, formats and decodes.
        app: The FastAPI application, to which routes may be added before `fire`.
        number_of_served_request_until_last_up_time: Requests answered since it was made.
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
        self._began = time.monotonic()
        self._host: Host | None = None
        limits = limits or Limits()
        threads = Threads(limits.max_requests)
        self.app = make_app(limits, threads.end, ready=lambda: self.ready, stats=self._stats)
        self.app.include_router(native_routes(self, threads))
        if engine is not None:
            self._answer_with(engine)
        self._pages = PageMount(self.app, self)

    @property
    def page_defaults(self) -> PageDefaults:
        """What the pages' advanced options say at first."""
        config = self.config
        most = min(config.max_new_tokens, config.max_length)
        return PageDefaults(config.system, config.temperature, most, most)

    @property
    def name(self) -> str:
        """What the model is called; 'no model' when there is none."""
        return "no model" if self.engine is None else self.engine.path.name

    @cached_property
    def gradio_app_chat(self) -> Page:
        """The chat page, to be launched alone; the HTTP server has it at /gradio_chat."""
        from ..pages.pages import chat_page

        return chat_page(self)

    @cached_property
    def gradio_app_instruct(self) -> Page:
        """The instruct page, to be launched alone; the HTTP server has it at /gradio_instruct."""
        from ..pages.pages import instruct_page

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
        """Load a Hugging Face model directory, or a checkpoint of EasyDeL with the model it is for.

        Args:
            path: The directory (None is the embedded model), or the checkpoint's file with `model`.
            model: See `load_from_params`; the arguments up to `init_shape` belong to it.
            tokenizer: Its tokenizer.
            config_model: Its configuration.
            add_params_field: Whether the model wants its parameters as ``{"params": …}``.
            config: None, a dict of updates, or an object with the attributes of `JAXServerConfig`.
            init_shape: (batch, length) with which the model tells the shapes of its parameters.
            limits: What the HTTP server lets through.

        Raises:
            ModelLoadError: The model cannot be loaded.
            InvalidArgument: A value of the configuration cannot be used.
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
                "tokenizer and config_model belong to a model, and model is None: a Hugging Face directory "
                "has its own",
                argument="model",
            )
        directory = Path(path) if path is not None else EMBEDDED_MODEL
        limit = ModelConfig.from_directory(directory).max_positions
        if settings.max_length == JAXServerConfig.max_length:
            settings = replace(settings, max_length=min(limit, settings.max_length))
        elif settings.max_length > limit:
            raise InvalidArgument(
                f"max_length={settings.max_length}: the model was made for at most {limit} tokens",
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
        """Serve a model of another library, known by what it can do.

        Args:
            model: Has ``generate`` (as EasyDeL's and transformers' Flax models), or is called for logits.
            config_model: Its configuration; ``get_partition_rules()`` says how parameters are split.
            config: None, a dict of updates, or an object with the attributes of `JAXServerConfig`.
            tokenizer: A tokenizer in the form of transformers'.
            params: Its parameters, taken as they are; None takes those the model carries.
            add_params_field: Whether the model wants them as ``{"params": …}``; nnx modules do not.
            limits: What the HTTP server lets through.

        Raises:
            InvalidArgument: The model cannot generate, or something it needs is missing.
        """
        own = default_params(model)
        given = own if params is None else params
        if given is None or tokenizer is None:
            missing = "tokenizer" if tokenizer is None else "params"
            raise InvalidArgument(f"{missing}=None: the model needs one, and carries none", argument=missing)
        wrap = add_params_field and not hasattr(own, "flat_state")
        server = cls(None, config, limits=limits)
        server.shard_params({"params": given} if wrap else given, config_model)
        server._answer_with(server._foreign_engine(model, tokenizer))
        return server

    def status(self) -> dict[str, Any]:
        """What GET /status answers."""
        stats = self._stats() if self.ready else None
        return {
            "config": asdict(self.config),
            "devices": [str(device) for device in jax.local_devices()],
            "number_of_backends": jax.local_device_count(),
            "cores_in_use": cores(),
            "status": "Ready" if self.ready else "down",
            "number_of_served_request_until_last_up_time": self.number_of_served_request_until_last_up_time,
            "number_of_served_prompts": stats.requests_served if stats is not None else 0,
            "tokens": stats.completion_tokens if stats is not None else 0,
            "memory": memory(),
            "uptime": time.monotonic() - self._began,
        }

    def fire(self, *, pages: bool = True) -> None:
        """Start the HTTP server, in a thread; returns when it answers.

        Args:
            pages: Whether /gradio_chat and /gradio_instruct are there, too.

        Raises:
            MissingDependency: Pages are wanted and gradio is not installed.
            ServerStartError: It cannot listen there.
        """
        if self._host is None:
            self._pages.prepare(wanted=pages)
            level = "info" if self.config.logging else "warning"
            host = Host(self.app, self.config.host, self.config.port, level)
            host.start()
            self._host = host

    @property
    def url(self) -> str | None:
        """Where the HTTP server can be reached; None when it does not run."""
        return None if self._host is None else self._host.url

    def end(self) -> None:
        """Stop the HTTP server, once what runs is answered; `fire` may be called again."""
        if self._host is not None:
            self._pages.end()
            self._host.stop()
            self._host = None

    def close(self) -> None:
        """`end`, and free the model."""
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
