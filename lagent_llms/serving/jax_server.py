"""`JAXServer`: a JAX model behind /instruct, /chat and /status, and behind OpenAI-style routes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from ..backends.jax import EMBEDDED_MODEL, AsyncJAXPipeline, JAXPipeline
from ..jax_engine import Engine
from .app import make_app
from .config import JAXServerConfig
from .host import Host
from .limits import Limits
from .native_models import ChatRequest, InstructRequest
from .openai_api import openai_routes
from .page_mount import PageMount, WithPages
from .process_stream import ProcessStream
from .prompts import Prompts

__all__ = ["JAXServer"]


class JAXServer(Prompts, WithPages):
    """A model on the JAX engine, with or without HTTP before it. Made by `load`.

    Every ``forward_…`` method and `process_chat_history` may be overridden; the routes call them.

    Attributes:
        config: How it listens, formats and decodes.
        app: The FastAPI application, to which routes may be added before `fire`.
        number_of_served_request_until_last_up_time: Requests answered since it was made.
    """

    def __init__(self, engine: Engine, config: Any = None, *, limits: Limits | None = None) -> None:
        self.config = JAXServerConfig.of(config)
        self.engine = engine
        defaults: dict[str, Any] = {
            "max_new_tokens": self.config.max_new_tokens,
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "top_k": self.config.top_k,
            "seed": self.config.seed,
        }
        self._pipeline = JAXPipeline(engine=engine, **defaults)
        self._use_own_format(self._pipeline.template)
        self.number_of_served_request_until_last_up_time = 0
        self._began = time.monotonic()
        self._host: Host | None = None
        self.app = make_app(limits)
        self.app.include_router(openai_routes(AsyncJAXPipeline(engine=engine, **defaults), engine.path.name))
        # Plain functions: FastAPI runs them in threads, and an override may block.
        self.app.post("/instruct")(self._instruct_route)
        self.app.post("/chat")(self._chat_route)
        self.app.get("/status")(self.status)
        self._pages = PageMount(self.app, self)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str] | None = None, *, config: Any = None, limits: Limits | None = None
    ) -> JAXServer:
        """Load a Hugging Face model directory.

        Args:
            path: The directory; None is the embedded model.
            config: None, a dict of updates, or an object with the attributes of `JAXServerConfig`.
            limits: What the HTTP server lets through.

        Raises:
            ModelLoadError: The model cannot be loaded.
            InvalidArgument: A value of the configuration cannot be used.
        """
        settings = JAXServerConfig.of(config)
        directory = Path(path) if path is not None else EMBEDDED_MODEL
        engine = Engine.load(
            directory,
            dtype=settings.dtype,
            max_len=_limit(directory, settings.max_length),
            decode_chunk=settings.max_compile_tokens,
            mesh_axes_names=settings.mesh_axes_names,
            mesh_axes_shape=settings.mesh_axes_shape,
        )
        return cls(engine, settings, limits=limits)

    def process(
        self,
        string: str,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        *,
        temperature: float | None = None,
    ) -> ProcessStream:
        """Continue `string` as it is, without any format.

        Args:
            string: The prompt.
            greedy: Take the most probable token each time.
            max_new_tokens: Most tokens of the answer; None is the configuration's.
            temperature: Randomness; None is the configuration's.

        Returns:
            An iterator of (text so far, tokens so far); assigned to two names it is the last such pair.
        """
        return ProcessStream(
            self._pipeline.stream_generate(
                string, max_new_tokens=max_new_tokens, temperature=0.0 if greedy else temperature
            )
        )

    def stream_instruct(
        self,
        prompt: str,
        system: str | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
    ) -> ProcessStream:
        """Answer an instruction step by step; what the instruct page shows."""
        string = self.format_instruct(prompt, system)
        return self.process(string, greedy, max_new_tokens, temperature=temperature)

    def stream_chat(
        self,
        prompt: str,
        history: Sequence[Sequence[str]] | None = None,
        greedy: bool | None = False,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        *,
        system: str | None = None,
    ) -> ProcessStream:
        """Answer a chat step by step; what the chat page shows.

        Args:
            prompt: The new turn.
            history: Earlier (prompt, answer) pairs.
            greedy: Take the most probable token each time.
            max_new_tokens: Most tokens of the answer; None is the configuration's.
            temperature: Randomness; None is the configuration's.
            system: A system message, for models that know one.
        """
        string = self.format_chat(prompt, history, system)
        return self.process(string, greedy, max_new_tokens, temperature=temperature)

    def forward_instruct(self, data: InstructRequest) -> dict[str, Any]:
        """What POST /instruct answers."""
        return self._forward(self.format_instruct(data.prompt, data.system), data.greedy, data.temperature)

    def forward_chat(self, data: ChatRequest) -> dict[str, Any]:
        """What POST /chat answers."""
        return self._forward(self.format_chat(data.prompt, data.history), data.greedy, data.temperature)

    def forward_instruct_non_api(
        self, prompt: str, system: str | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """`forward_instruct` without HTTP."""
        return self.forward_instruct(InstructRequest(prompt=prompt, system=system, greedy=greedy))

    def forward_chat_non_api(
        self, prompt: str, history: list[list[str]] | None = None, greedy: bool = False
    ) -> dict[str, Any]:
        """`forward_chat` without HTTP."""
        return self.forward_chat(ChatRequest(prompt=prompt, history=history, greedy=greedy))

    def status(self) -> dict[str, Any]:
        """What GET /status answers."""
        stats = self.engine.stats()
        served = self.number_of_served_request_until_last_up_time
        return {
            "config": vars(self.config),
            "devices": [str(device) for device in jax.devices()],
            "number_of_backends": jax.device_count(),
            "status": "Ready",
            "number_of_served_request_until_last_up_time": served,
            "number_of_served_prompts": stats.requests_served,
            "uptime": time.monotonic() - self._began,
        }

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.engine.path.name

    def fire(self, *, pages: bool = True) -> None:
        """Start the HTTP server, in a thread; returns when it answers.

        Args:
            pages: Whether /gradio_chat and /gradio_instruct are there, too.

        Raises:
            MissingDependency: Pages are wanted and gradio is not installed.
            ServerStartError: It cannot listen there.
        """
        if self._host is None:
            self._pages.wanted = pages
            if pages:
                from . import pages as _  # noqa: F401  (told here, in the caller's thread, when gradio is missing)
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
        self.engine.close()

    def _forward(self, string: str, greedy: bool | None, temperature: float | None) -> dict[str, Any]:
        response, used = self.process(string, greedy, None, temperature=temperature).result()
        self.number_of_served_request_until_last_up_time += 1
        return {"input": string, "response": response, "tokens_used": used}

    # Looked up at each call, so that an override on the class or on the object is what answers.

    def _instruct_route(self, data: InstructRequest) -> Any:
        return self.forward_instruct(data)

    def _chat_route(self, data: ChatRequest) -> Any:
        return self.forward_chat(data)


def _limit(directory: Path, max_length: int) -> int | None:
    """`max_length`, or None (the model's own limit) when the model was made for less."""
    from ..jax_engine.config import ModelConfig

    return max_length if max_length < ModelConfig.from_directory(directory).max_positions else None
