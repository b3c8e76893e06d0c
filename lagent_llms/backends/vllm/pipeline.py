"""`VLLMPipeline` and `AsyncVLLMPipeline`: run a model in this process with vLLM."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ... import validators
from ...core.callbacks import Handle
from ...core.local_engine import AsyncLocalEngineLLM, LocalEngineCore, LocalEngineLLM
from ...core.request import Request
from ...core.token_events import TokenEvent
from ...errors import MissingDependency

try:
    from ..transformers import loading
    from ..transformers.tokenizer import EngineTokenizer
    from .engine import VLLMEngine
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "vllm") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...params import BackendKwargs
    from ...templates import TemplateSpec

__all__ = ["AsyncVLLMPipeline", "VLLMCore", "VLLMPipeline"]

_token_id = validators.integer("a token id of 0 or more", 0)


class VLLMCore(LocalEngineCore):
    """A causal language model in this process, run by vLLM.

    vLLM starts processes, so a script that constructs this class needs ``if __name__ == "__main__":``. A
    parameter that neither the constructor nor a call sets is that of the model's generation_config.json, as
    in `HFTransformers`.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        tp: Number of GPUs for tensor parallelism.
        engine_args: Further engine arguments of vLLM (``gpu_memory_utilization``, ``dtype``,
            ``max_num_seqs``, ``quantization``, ``trust_remote_code`` …).
        adapters: LoRA adapters, ``{name: directory}``; ``adapter_name`` of a call chooses.
        stop_token_ids: Further tokens that end an answer.
        meta_template: See `LLMCore`; None uses the checkpoint's own chat template.
        session_len: See `LLMCore`; also the engine's context length in tokens, unless `engine_args` has
            ``max_model_len``.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Attributes:
        path: Name of the model.
        engine: Runs the model.

    Raises:
        InvalidArgument: An argument is not allowed.
        ModelLoadError: The model or its tokenizer cannot be loaded.
    """

    unsupported_parameters = frozenset({"tool_choice"})
    opt_in_parameters = frozenset({"frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias"})
    engine: VLLMEngine

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        tp: int = 1,
        engine_args: Mapping[str, Any] | None = None,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        stop_token_ids: Sequence[int] = (),
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        options: dict[str, Any] = {"tensor_parallel_size": tp, **(engine_args or {})}
        if session_len is not None:
            options.setdefault("max_model_len", session_len)
        ends = [_token_id("stop_token_ids", index) for index in stop_token_ids]
        self.path = os.fspath(path)
        trusted = {"trust_remote_code": bool(options.get("trust_remote_code", False))}
        source = options.get("tokenizer") or self.path
        tokenizer = loading.load_tokenizer(source, trusted)
        if meta_template is None:
            meta_template = loading.own_template(source, tokenizer)
        config = loading.read_generation_config(self.path, options)
        # What the arguments refuse is refused before the weights are loaded.
        super().__init__(
            meta_template=meta_template,
            session_len=session_len,
            max_concurrency=max_concurrency,
            **{**loading.generation_defaults(config), **kwargs},
        )
        folders = {name: os.fspath(folder) for name, folder in (adapters or {}).items()}
        self.engine = self._load(EngineTokenizer(tokenizer), options, folders, ends)
        weakref.finalize(self, self.engine.close)  # also at the end of the interpreter

    def _load(
        self,
        tokenizer: EngineTokenizer,
        options: Mapping[str, Any],
        adapters: Mapping[str, str],
        stop_token_ids: Sequence[int],
    ) -> VLLMEngine:
        return VLLMEngine(self.path, tokenizer, options, adapters, stop_token_ids)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    @property
    def fills_engine(self) -> int:
        """See `LLMCore.fills_engine`; no more, because limits of time run in vLLM's queue."""
        return self.engine.slots

    @property
    def context_len(self) -> int | None:
        """See `LLMCore.context_len`."""
        return self.engine.max_len

    def _submit_ids(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> Handle:
        # vLLM does not tell when it admits a request, so `on_wait` is not called.
        return self.engine.submit(ids, request.params, request.options.adapter_name, on_event)


class VLLMPipeline(VLLMCore, LocalEngineLLM):
    """Run a model in this process with vLLM, called synchronously. The arguments: see `VLLMCore`."""


class AsyncVLLMPipeline(VLLMCore, AsyncLocalEngineLLM):
    """Asynchronous `VLLMPipeline`. The constructor blocks while it loads the model."""
