"""`JAXPipeline` and `AsyncJAXPipeline`: run a model in this process with the JAX engine.

The engine runs in its own thread and batches concurrent requests. Both classes submit token ids and convert
the engine's events to pieces.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ...core.callbacks import AsyncCallbackSource, Handle
from ...core.local_engine import AsyncLocalEngineLLM, LocalEngineCore, LocalEngineLLM
from ...core.request import Request
from ...core.token_events import TokenEvent
from ...errors import InvalidArgument, MissingDependency, ModelLoadError
from ...templates.api_roles import api_roles
from ...templates.model_files import has_chat_template

try:
    from ...jax_engine import Engine, FunctionEngine, SamplingParams
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "jax") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...params import BackendKwargs
    from ...templates import TemplateSpec

__all__ = ["EMBEDDED_MODEL", "AsyncJAXPipeline", "JAXPipeline"]

#: The model that is part of this package (see its README.md).
EMBEDDED_MODEL = Path(__file__).parents[2] / "models" / "embedded"


class _JAXCore(LocalEngineCore):
    """A model in this process, run by the JAX engine.

    Args:
        path: Model directory in Hugging Face format; None (default) is the embedded model.
        meta_template: See `LLMCore`; None uses the model's own chat template.
        engine: A running `Engine` or `FunctionEngine`, which `close` leaves open. `path` and the arguments
            of the engine (`adapter` to `max_queue`) are then ignored.
        adapter: Directory of a LoRA adapter in PEFT format, merged into the weights.
        dtype: 'float32', 'bfloat16' or 'float16'; float16 computes in float32 on a CPU.
        max_slots: Largest number of requests decoded in one batch; further requests wait.
        max_len: Longest request in tokens, prompt and answer together; None is the model's limit, at most
            4096.
        decode_chunk: Largest number of decode steps per dispatch; new requests wait that long.
        mesh_axes_names: Names of the device mesh's axes (seed 004).
        mesh_axes_shape: Shape of the device mesh; -1 stands for all remaining devices.
        cache_dir: Directory of the persistent compilation cache; None is the user's cache directory, False
            turns the cache off.
        progress: Called with a message for each step of loading.
        max_queue: Most requests that wait for a slot; a further one raises `RateLimited` with the status 503.
            None is no limit.
        session_len: See `LLMCore`; in tokens.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Raises:
        InvalidArgument: An argument is not allowed.
        ModelLoadError: The model cannot be loaded.
    """

    engine: Engine | FunctionEngine
    unsupported_parameters = frozenset({"adapter_name", "tool_choice"})
    opt_in_parameters = frozenset({"frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias"})
    neutral_arguments = LocalEngineCore.neutral_arguments | {"cache_dir", "max_queue", "progress"}

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        meta_template: TemplateSpec | None = None,
        engine: Engine | FunctionEngine | None = None,
        adapter: str | os.PathLike[str] | None = None,
        dtype: str = "float32",
        max_slots: int = 8,
        max_len: int | None = None,
        decode_chunk: int = 8,
        mesh_axes_names: Sequence[str] = ("dp", "fsdp", "mp"),
        mesh_axes_shape: Sequence[int] = (1, -1, 1),
        cache_dir: str | os.PathLike[str] | Literal[False] | None = None,
        progress: Callable[[str], None] | None = None,
        max_queue: int | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        if not isinstance(path, (str, os.PathLike, type(None))):
            raise InvalidArgument(f"path={path!r}: allowed is None or a model directory", argument="path")
        model = engine.path if engine is not None else Path(path or EMBEDDED_MODEL)
        own_template = partial(_model_template, None if isinstance(engine, FunctionEngine) else model)
        super().__init__(
            meta_template=api_roles(meta_template, own_template),
            session_len=session_len,
            max_concurrency=max_concurrency,
            **kwargs,
        )
        self.path = model
        self._owns_engine = engine is None
        self.engine = engine or Engine.load(
            model,
            adapter=adapter,
            dtype=dtype,
            max_slots=max_slots,
            max_len=max_len,
            decode_chunk=decode_chunk,
            mesh_axes_names=tuple(mesh_axes_names),
            mesh_axes_shape=tuple(mesh_axes_shape),
            cache_dir=cache_dir,
            progress=progress,
            max_queue=max_queue,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def fills_engine(self) -> int:
        """See `LLMCore.fills_engine`."""
        return 2 * self.engine.max_slots  # the next prompt waits when a slot becomes free

    @property
    def context_len(self) -> int | None:
        """See `LLMCore.context_len`."""
        return min(self.engine.max_len, self.session_len or self.engine.max_len)

    def _submit_ids(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> Handle:
        params = request.params
        sampling = SamplingParams(
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_k=params.top_k,
            top_p=params.top_p,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            seed=params.seed,
            ignore_eos=params.ignore_eos,
            logprobs=params.logprobs,
            frequency_penalty=params.frequency_penalty,
            presence_penalty=params.presence_penalty,
            min_new_tokens=params.min_new_tokens,
            logit_bias=params.logit_bias,
            response_format=params.response_format,
        )
        return self.engine.submit(ids, sampling, on_event=on_event, on_wait=on_wait)

    def _close_engine(self) -> None:
        """Close the engine unless the caller passed it; running requests end with an error."""
        if self._owns_engine:
            super()._close_engine()


class JAXPipeline(_JAXCore, LocalEngineLLM):
    """Run a model in this process with JAX, called synchronously. The arguments: see `_JAXCore`."""


class AsyncJAXPipeline(_JAXCore, AsyncLocalEngineLLM):
    """Asynchronous `JAXPipeline`."""

    async def _open(self, request: Request) -> AsyncCallbackSource[TokenEvent]:
        constraint = request.params.response_format
        if constraint is not None and isinstance(self.engine, Engine):  # a large one takes a second
            await asyncio.to_thread(self.engine.compile_grammar, constraint)
        return await super()._open(request)


def _model_template(model: Path | None) -> str | None:
    """The template argument of a model directory; None without a directory, or if it has no chat template."""
    if model is None or model == EMBEDDED_MODEL:
        return None if model is None else "internlm2-lagent"
    if not model.is_dir():
        raise ModelLoadError(f"{model}: there is no such model directory")
    return str(model) if has_chat_template(model) else None
