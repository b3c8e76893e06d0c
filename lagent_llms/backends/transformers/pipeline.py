"""`HFTransformers` and `AsyncHFTransformers`: run a model in this process with transformers' `generate`."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ... import validators
from ...core.callbacks import Handle
from ...core.local_engine import AsyncLocalEngineLLM, LocalEngineCore, LocalEngineLLM
from ...core.request import Request
from ...core.token_events import TokenEvent
from ...errors import MissingDependency
from ...templates.api_roles import api_roles

try:
    from . import loading
    from .adapters import Adapters
    from .engine import TransformersEngine
    from .tokenizer import EngineTokenizer
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "transformers") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...params import BackendKwargs
    from ...templates import TemplateSpec

__all__ = ["AsyncHFTransformers", "HFTransformers", "TransformersCore"]

_positive = validators.integer("an integer of 1 or more", 1)
_token_id = validators.integer("a token id of 0 or more", 0)


class TransformersCore(LocalEngineCore):
    """A causal language model in this process, run by transformers.

    A parameter that neither the constructor nor a call sets is that of the model's generation_config.json:
    temperature (0 where it does not sample), top_k, top_p, min_p, repetition_penalty, max_new_tokens.

    Args:
        path: Model directory, or id on the Hugging Face hub; or a loaded (model, tokenizer), which is put in
            evaluation mode and serves no other object meanwhile.
        tokenizer_path: Directory or id of the tokenizer; None is the model's own.
        tokenizer_kwargs: Keywords of ``AutoTokenizer.from_pretrained``.
        model_kwargs: Keywords of ``AutoModelForCausalLM.from_pretrained`` (``device_map``,
            ``quantization_config``, ``attn_implementation``, ``revision`` …).
        device: Where to run ('cuda:1', 'cpu', 'mps'); None spreads the model over all accelerators, or runs
            on the CPU.
        dtype: Type of the weights ('float32', 'bfloat16' …); 'auto' is the checkpoint's.
        trust_remote_code: Whether to run the Python code of a checkpoint; it can do anything.
        adapters: PEFT adapters to load, ``{name: directory or hub id}``; ``adapter_name`` of a call chooses.
        max_batch_size: Most requests in one batch; further ones wait. 1 for a model that cannot be padded.
        stop_token_ids: Further tokens that end an answer.
        meta_template: See `LLMCore`; None uses the checkpoint's own chat template.
        session_len: See `LLMCore`; in tokens.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Attributes:
        path: Name of the model.
        engine: Runs the model (``engine.model``).

    Raises:
        InvalidArgument: An argument is not allowed.
        ModelLoadError: The model, its tokenizer or an adapter cannot be loaded.
    """

    unsupported_parameters = frozenset({"response_format", "tool_choice"})
    opt_in_parameters = frozenset({"frequency_penalty", "presence_penalty", "min_new_tokens", "logit_bias"})
    engine: TransformersEngine

    def __init__(
        self,
        path: str | os.PathLike[str] | tuple[Any, Any],
        *,
        tokenizer_path: str | os.PathLike[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        device: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        max_batch_size: int = 8,
        stop_token_ids: Sequence[int] = (),
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        max_batch_size = _positive("max_batch_size", max_batch_size)
        ends = [_token_id("stop_token_ids", index) for index in stop_token_ids]
        options = {"device_map": device or "auto", "dtype": dtype, "trust_remote_code": trust_remote_code}
        options |= model_kwargs or {}
        pair = loading.as_pair(path)
        if pair is None:
            assert not isinstance(path, tuple)
            source = tokenizer_path or path
            tokenizer = loading.load_tokenizer(
                source, {"trust_remote_code": trust_remote_code, **(tokenizer_kwargs or {})}
            )
            config = loading.read_generation_config(path, options)
            self.path = os.fspath(path)
        else:
            source, tokenizer, config = None, pair[1], pair[0].generation_config
            self.path = str(getattr(pair[0], "name_or_path", "") or type(pair[0]).__name__)
        # What the arguments refuse is refused before the weights are loaded.
        super().__init__(
            meta_template=api_roles(meta_template, partial(loading.own_template, source, tokenizer)),
            session_len=session_len,
            max_concurrency=max_concurrency,
            **{**loading.generation_defaults(config), **kwargs},
        )
        if kwargs.get("max_new_tokens") is None:  # the caller has not set it, so that a warning tells of it
            self.params = self.params.as_default("max_new_tokens")
        model = pair[0].eval() if pair else loading.load_model(self.path, options)
        self.engine = TransformersEngine(
            Adapters(model, adapters),
            EngineTokenizer(tokenizer),
            end_ids=loading.end_ids(model.generation_config, tokenizer, ends),
            max_len=loading.context_length(model),
            max_batch_size=max_batch_size,
        )
        weakref.finalize(self, self.engine.close)  # also at the end of the interpreter

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    @property
    def fills_engine(self) -> int:
        """See `LLMCore.fills_engine`."""
        return 2 * self.engine.max_batch_size  # the next prompt waits when a place becomes free

    @property
    def context_len(self) -> int | None:
        """See `LLMCore.context_len`."""
        limits = [length for length in (self.engine.max_len, self.session_len) if length is not None]
        return min(limits, default=None)

    def _submit_ids(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> Handle:
        return self.engine.submit(ids, request.params, request.options.adapter_name, on_event, on_wait)

    def _close_engine(self) -> None:
        """Stop running generations and free the memory of the model, unless the caller holds it."""
        super()._close_engine()
        self._arguments = (), {}  # they may hold the model


class HFTransformers(TransformersCore, LocalEngineLLM):
    """Run a model in this process with transformers, called synchronously.

    The arguments: see `TransformersCore`.
    """


class AsyncHFTransformers(TransformersCore, AsyncLocalEngineLLM):
    """Asynchronous `HFTransformers`. The constructor blocks while it loads the model."""
