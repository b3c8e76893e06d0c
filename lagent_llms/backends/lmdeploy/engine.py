"""Adapter for lmdeploy's in-process engine: check options, load, generate, free.

The only file that depends on lmdeploy's Python API.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import difflib
import gc
import importlib
import importlib.metadata
import inspect
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from ...core.request import Request
from ...errors import (
    ContextLengthExceeded,
    InvalidArgument,
    LLMError,
    MissingDependency,
    ModelLoadError,
    ServerError,
)
from ...protocols.marked_text import MarkedTextEncoder
from ...structured.formats import choice_as_regex
from ...templates.tool_arguments import with_decoded_arguments
from .versions import OLDEST_PIPELINE, check_version

__all__ = ["BackendName", "Event", "LMDeployEngine"]

BackendName = Literal["turbomind", "pytorch"]
_CONFIGS: dict[BackendName, str] = {
    "turbomind": "TurbomindEngineConfig",
    "pytorch": "PytorchEngineConfig",
}

#: An lmdeploy ``GenOut``, the `LLMError` that ended the generation, or None at its end.
Event = Any


class LMDeployEngine:
    """The async engine of an ``lmdeploy.pipeline``, called without the pipeline's own sessions and queues.

    Args:
        path: Model directory or hub id, as for ``lmdeploy.pipeline``.
        model_name: Name of the model; None leaves it to lmdeploy.
        backend: 'turbomind' or 'pytorch'; None leaves the choice to lmdeploy.
        options: Engine options, and keywords of ``lmdeploy.pipeline``.
        defaults: Engine options used where `options` does not set them and the engine has them.

    Attributes:
        backend: Name of the engine in use.
        adapters: Names of the loaded LoRA adapters.
        slots: Number of requests that the engine runs at once, None if lmdeploy does not tell.
        tokenizer: lmdeploy's tokenizer.
        session_len: Context length in tokens.
        is_multimodal: Whether the model reads more than text.
        marked: Encodes prompts with escaped special tokens.

    Raises:
        InvalidArgument: The installed lmdeploy does not have an option, or rejects its value.
        MissingDependency: lmdeploy is not installed, or too old.
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model_name: str | None,
        backend: BackendName | None,
        options: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> None:
        if not isinstance(options, Mapping):
            raise InvalidArgument(
                f"pipeline_cfg={options!r}: allowed is a dict of options such as {{'max_batch_size': 64}}",
                argument="pipeline_cfg",
            )
        lmdeploy = _lmdeploy()
        _check_version(importlib.metadata.version("lmdeploy"))
        self._generation_config = lmdeploy.GenerationConfig
        config, keywords = _split_options(backend, options, defaults)
        if model_name is not None:
            keywords["model_name"] = model_name
        try:
            self._pipe: Any = lmdeploy.pipeline(os.fspath(path), backend_config=config, **keywords)
        except Exception as error:
            raise ModelLoadError(f"{path}: lmdeploy cannot load the model: {error}") from error
        self._engine: Any = self._pipe.async_engine
        self._loop: asyncio.AbstractEventLoop = self._pipe.internal_thread.loop
        self._running: set[concurrent.futures.Future[None]] = set()
        self._lock = threading.Lock()
        self.backend: str = self._engine.backend
        self.adapters = frozenset(getattr(self._engine.backend_config, "adapters", None) or ())
        self.slots: int | None = getattr(self._engine.backend_config, "max_batch_size", None)
        self.tokenizer: Any = self._engine.tokenizer
        self.session_len: int = self._engine.session_len
        self.is_multimodal: bool = self._engine.prompt_processor.vl_encoder is not None
        self.marked = MarkedTextEncoder(self.tokenizer.model.model)

    def encode(self, text: str, *, add_bos: bool) -> list[int]:
        """Token ids of a prompt, with at most one BOS, and only if the tokenizer adds one.

        The prompt may hold `templates.injection.MARK`.
        """
        if self._pipe is None:
            raise _closed_error()
        hf = self.tokenizer.model.model
        ids: list[int]
        if hf.bos_token and text.startswith(hf.bos_token):
            return self.marked.encode(text, lambda text: hf.encode(text, add_special_tokens=False))
        ids = self.marked.encode(text, lambda text: self.tokenizer.encode(text, add_bos=True))
        return ids[1:] if not add_bos and ids[:1] == [hf.bos_token_id] else ids

    def decode(self, token: int) -> str:
        """The text of one token."""
        return str(self.tokenizer.decode([token], skip_special_tokens=False))

    def single_token(self, word: str) -> int | None:
        """Id of the token whose text is exactly `word`, None if there is none."""
        ids = self.tokenizer.model.model.encode(word, add_special_tokens=False)
        return ids[0] if len(ids) == 1 and self.decode(ids[0]) == word else None

    def generation_config(self, request: Request) -> Any:
        """Convert the request's parameters to an ``lmdeploy.GenerationConfig``.

        Raises:
            InvalidArgument: `temperature` is above lmdeploy's limit of 2.
        """
        params = request.params
        greedy = params.temperature == 0
        if params.temperature > 2:
            raise InvalidArgument(
                f"temperature={params.temperature!r}: lmdeploy allows 0 to 2", argument="temperature"
            )
        # lmdeploy stops at stop words that are one token; our scanner finds all others in the text.
        # With ignore_eos its pytorch engine suppresses stop tokens instead of stopping at them.
        stops = [] if params.ignore_eos else [self.single_token(word) for word in request.stop_words]
        return self._generation_config(
            max_new_tokens=params.max_new_tokens,
            do_sample=True,  # False also drops the repetition penalty
            top_p=params.top_p,
            top_k=1 if greedy else params.top_k or 0,
            min_p=params.min_p or 0.0,
            temperature=1.0 if greedy else params.temperature,
            repetition_penalty=params.repetition_penalty,
            ignore_eos=params.ignore_eos,
            random_seed=params.seed,
            stop_token_ids=[stop for stop in stops if stop is not None] or None,
            include_stop_str_in_output=True,  # identifies the stop token
            skip_special_tokens=params.skip_special_tokens,
            spaces_between_special_tokens=False,
            logprobs=None if params.logprobs is None else max(1, params.logprobs),
            min_new_tokens=params.min_new_tokens or None,
            logits_processors=[partial(_add_bias, params.logit_bias)] if params.logit_bias else None,
            response_format=None
            if params.response_format is None
            else choice_as_regex(params.response_format),
        )

    def submit(self, request: Request, on_event: Callable[[Event], None]) -> concurrent.futures.Future[None]:
        """Start a generation.

        Args:
            request: The generation; its prompt is tokenized here, its messages are rendered by lmdeploy.
            on_event: Called in the engine's thread for every `Event`.

        Returns:
            A future whose cancellation stops the generation.

        Raises:
            InvalidArgument: The adapter is not loaded, or lmdeploy rejects a parameter.
            LLMError: The engine is closed.
        """
        if self._pipe is None:
            raise _closed_error()
        adapter = request.options.adapter_name
        if adapter is not None and adapter not in self.adapters:
            raise InvalidArgument(
                f"adapter_name={adapter!r}: loaded are {', '.join(sorted(self.adapters)) or 'none'}",
                argument="adapter_name",
            )
        given: dict[str, Any] = {"gen_config": self.generation_config(request), "adapter_name": adapter}
        if request.prompt is None:
            # lmdeploy continues a last message of the assistant without being asked to
            given |= {
                "messages": [*map(with_decoded_arguments, request.messages or ())],
                "tools": request.options.tools,
                "chat_template_kwargs": dict(request.options.chat_template_kwargs or {}),
            }
            if request.options.reasoning_effort is not None:
                given["reasoning_effort"] = request.options.reasoning_effort
        else:
            given |= {"messages": None, "input_ids": self.encode(request.prompt, add_bos=request.add_bos)}
        with self._lock:
            if self._pipe is None:
                raise _closed_error()
            future = asyncio.run_coroutine_threadsafe(self._generate(given, on_event), self._loop)
            self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    async def _generate(self, given: Mapping[str, Any], on_event: Callable[[Event], None]) -> None:
        try:
            session = self._engine.session_mgr.get()
            prepared = await self._engine.preprocess(session_id=session, **given)
            async with contextlib.aclosing(self._engine.generate(prepared)) as outputs:
                async for output in outputs:
                    on_event(output)
            on_event(None if self._pipe is not None else _closed_error())
        except asyncio.CancelledError:
            on_event(_closed_error())
            raise
        except Exception as error:  # noqa: BLE001  (raised by the reader of the events)
            on_event(_to_llm_error(error))

    def close(self) -> None:
        """Stop running generations and free the engine's memory. Idempotent."""
        with self._lock:
            pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        running = list(self._running)
        for future in running:
            future.cancel()
        concurrent.futures.wait(running, timeout=10)
        pipe.close()
        self._engine = self.tokenizer = None
        del pipe
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def _lmdeploy() -> Any:
    """Import lmdeploy on first use, because that takes seconds."""
    try:
        return importlib.import_module("lmdeploy")
    except ModuleNotFoundError as error:
        raise MissingDependency.of(str(error.name), "lmdeploy") from error


def _check_version(version: str) -> None:
    if check_version(version) < OLDEST_PIPELINE:
        raise MissingDependency(
            f"lmdeploy {version} is too old for LMDeployPipeline, which needs "
            f"{OLDEST_PIPELINE[0]}.{OLDEST_PIPELINE[1]} or newer; LMDeployServer works with it",
            extra="lmdeploy",
        )


def _config_type(backend: BackendName) -> type:
    found = getattr(_lmdeploy(), _CONFIGS[backend])
    assert isinstance(found, type)
    return found


def _split_options(
    backend: BackendName | None, options: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Split `options` into the engine's configuration and the other keywords of ``lmdeploy.pipeline``."""
    if backend is not None and backend not in _CONFIGS:
        raise InvalidArgument(
            f"backend={backend!r}: allowed is None, 'turbomind' or 'pytorch'", argument="backend"
        )
    keywords = dict(options)
    given = keywords.pop("backend_config", None)
    if given is not None and not isinstance(given, Mapping):
        if backend is not None and not isinstance(given, _config_type(backend)):
            raise InvalidArgument(
                f"pipeline_cfg['backend_config'] is a {type(given).__name__}, but backend={backend!r}",
                argument="pipeline_cfg",
            )
        known: set[str] = set()
        config = given
    else:
        chosen = {
            **{name: keywords[name] for name in _engine_options(backend) & keywords.keys()},
            **(given or {}),
        }
        for name in chosen:
            keywords.pop(name, None)
        known = _engine_options(backend)
        config = _engine_config(backend, chosen, defaults)
    own = set(inspect.signature(_lmdeploy().pipeline).parameters) - {"model_path", "kwargs", "backend_config"}
    for name in keywords:
        if name not in own:
            raise _unknown_option(name, known | own)
    return config, keywords


def _engine_options(backend: BackendName | None) -> set[str]:
    names: tuple[BackendName, ...] = ("turbomind", "pytorch") if backend is None else (backend,)
    return {field.name for name in names for field in dataclasses.fields(_config_type(name))}


def _engine_config(
    backend: BackendName | None, chosen: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Any:
    """Build the engine's configuration from `chosen` and `defaults`.

    A `backend` of None means turbomind, unless an option exists only in pytorch's configuration.
    """
    if backend is None:
        backend = "turbomind" if chosen.keys() <= _engine_options("turbomind") else "pytorch"
    allowed = _engine_options(backend)
    for name in chosen:
        if name not in allowed:
            raise _unknown_option(name, allowed)
    values = {name: value for name, value in defaults.items() if name in allowed}
    try:
        return _config_type(backend)(**{**values, **chosen})
    except Exception as error:
        raise InvalidArgument(
            f"pipeline_cfg: the {backend} engine refuses {dict(chosen)}: {error or type(error).__name__}",
            argument="pipeline_cfg",
        ) from error


def _unknown_option(name: str, allowed: set[str]) -> InvalidArgument:
    for backend in _CONFIGS:
        if name in _engine_options(backend):
            reason = f"only the {backend} engine has this option"
            break
    else:
        near = difflib.get_close_matches(name, allowed, n=3, cutoff=0.4)
        reason = "lmdeploy has no such option" + (f"; the nearest are {', '.join(near)}" if near else "")
    return InvalidArgument(f"pipeline_cfg[{name!r}]: {reason}", argument="pipeline_cfg")


def _closed_error() -> LLMError:
    return LLMError("the lmdeploy engine is closed")


def _to_llm_error(error: Exception) -> LLMError:
    code = getattr(getattr(error, "code", None), "value", "")
    message = str(error) or type(error).__name__
    if code == "context_length_exceeded":
        return ContextLengthExceeded(message, code=code)
    if code in ("invalid_request", "unsupported_feature"):
        return InvalidArgument(message)
    return ServerError(f"lmdeploy's engine failed: {message}", code=code or type(error).__name__)


def _add_bias(bias: Mapping[int, float], token_ids: Any, logits: Any) -> Any:
    """A logits processor of lmdeploy's pytorch engine."""
    for token, value in bias.items():
        logits[token] += value
    return logits
