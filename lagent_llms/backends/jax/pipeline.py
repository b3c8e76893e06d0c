"""`JAXPipeline` and `AsyncJAXPipeline`: run a model in this process with the JAX engine.

The engine runs in its own thread and batches concurrent requests. Both classes submit token ids and convert
the engine's events to pieces.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from ...core.base import AsyncBaseLLM, BaseLLM
from ...core.callbacks import AsyncCallbackSource, CallbackSource
from ...core.llm import LLMCore
from ...core.request import Request
from ...errors import InvalidArgument, LLMError, MissingDependency, ModelLoadError
from ...schema import Piece, TokenLogprob, Usage
from ...templates.injection import MARK
from ...templates.model_files import has_chat_template

try:
    from ...jax_engine import Engine, FunctionEngine, SamplingParams, TokenEvent
except ModuleNotFoundError as error:
    raise MissingDependency.of(str(error.name), "jax") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...jax_engine import TokenLogprobs
    from ...params import CallKwargs
    from ...templates import TemplateSpec

__all__ = ["EMBEDDED_MODEL", "AsyncJAXPipeline", "JAXPipeline"]

#: The model that is part of this package (see its README.md).
EMBEDDED_MODEL = Path(__file__).parents[2] / "models" / "embedded"

#: Prompts of at least this many characters are tokenized in a thread, so that they do not block the loop.
_LONG_PROMPT = 20_000


class _Handle(Protocol):
    def cancel(self) -> None:
        """Stop the generation."""


class _JAXCore(LLMCore):
    """A model in this process, run by the JAX engine.

    Args:
        path: Model directory in Hugging Face format; None (default) is the embedded model.
        meta_template: See `LLMCore`; None uses the model's own chat template.
        engine: A running `Engine` or `FunctionEngine`, which `close` leaves open. `path` and the arguments
            of the engine (`adapter` to `progress`) are then ignored.
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
        session_len: See `LLMCore`; in tokens.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Raises:
        InvalidArgument: An argument is not allowed.
        ModelLoadError: The model cannot be loaded.
    """

    in_process: ClassVar[bool] = True
    unsupported_parameters = frozenset({"response_format", "adapter_name", "tool_choice"})

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
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[CallKwargs],
    ) -> None:
        if not isinstance(path, (str, os.PathLike, type(None))):
            raise InvalidArgument(f"path={path!r}: allowed is None or a model directory", argument="path")
        model = engine.path if engine is not None else Path(path or EMBEDDED_MODEL)
        if meta_template is None and not isinstance(engine, FunctionEngine):
            meta_template = "internlm2-lagent" if model == EMBEDDED_MODEL else _model_template(model)
        super().__init__(
            meta_template=meta_template, session_len=session_len, max_concurrency=max_concurrency, **kwargs
        )
        self.path = model
        self._owns_engine = engine is None
        self.engine: Engine | FunctionEngine = engine or Engine.load(
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
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @property
    def slots(self) -> int:
        """See `LLMCore.slots`."""
        return self.engine.max_slots

    @property
    def context_len(self) -> int | None:
        """See `LLMCore.context_len`."""
        return min(self.engine.max_len, self.session_len or self.engine.max_len)

    def local_vocabulary(self) -> tuple[Collection[str], Callable[[str], str] | None]:
        """See `ContentGuards.local_vocabulary`."""
        marked = getattr(self.engine.tokenizer, "marked", None)  # a tokenizer of the caller's may have none
        return ((), None) if marked is None else (marked.special_tokens, marked.normalize)

    def _encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        """Token ids of a prompt, with at most one BOS, and only if the tokenizer adds one."""
        tokenizer = self.engine.tokenizer
        has_bos = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
        return tokenizer.encode(text, add_bos=add_bos and not has_bos)

    def _prompt_ids(self, request: Request) -> list[int]:
        assert request.prompt is not None
        return self._encode(request.prompt, add_bos=request.add_bos)

    def _submit(
        self,
        ids: list[int],
        request: Request,
        on_event: Callable[[TokenEvent], None],
        on_wait: Callable[[bool], None],
    ) -> tuple[_Handle, _Decoder]:
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
        )
        handle = self.engine.submit(ids, sampling, on_event=on_event, on_wait=on_wait)
        return handle, _Decoder(self.engine, request, len(ids))

    def _close_engine(self) -> None:
        if self._owns_engine:
            self.engine.close()


class _Decoder:
    """Convert the engine's events for one request to pieces."""

    def __init__(self, engine: Engine | FunctionEngine, request: Request, prompt_tokens: int) -> None:
        self._tokenizer = engine.tokenizer
        self._text = engine.tokenizer.stream(skip_special_tokens=request.params.skip_special_tokens)
        self._stop_words = request.stop_words
        self._prompt_tokens = prompt_tokens
        self._n_tokens = 0

    def piece(self, event: TokenEvent) -> Piece | None:
        """Convert one event; None if the request was cancelled.

        Raises:
            LLMError: The engine failed.
        """
        if event.error is not None:
            raise LLMError(f"the engine failed: {event.error}") from event.error
        if event.finish_reason == "cancelled":
            return None
        self._n_tokens += len(event.token_ids)
        text = self._text.feed(event.token_ids)
        if event.finish_reason is not None:
            text += self._text.flush()
        return Piece(
            text=text,
            token_ids=event.token_ids,
            n_tokens=self._n_tokens,
            finish_reason=event.finish_reason,
            stop_word=self._stop_word(event),
            usage=Usage(self._prompt_tokens, self._n_tokens, event.cached_tokens),
            logprobs=tuple(self._logprob(item) for item in event.logprobs),
        )

    def _stop_word(self, event: TokenEvent) -> str | None:
        """Text of the end token, if it is one of the request's stop words."""
        if event.end_token is None:
            return None
        text = self._tokenizer.decode([event.end_token], skip_special_tokens=False)
        return text if text in self._stop_words else None

    def _logprob(self, item: TokenLogprobs) -> TokenLogprob:
        def text(token: int) -> str:
            return self._tokenizer.decode([token], skip_special_tokens=False)

        top = tuple((text(token), token, logprob) for token, logprob in item.top)
        return TokenLogprob(text(item.token_id), item.token_id, item.logprob, top)


class JAXPipeline(_JAXCore, BaseLLM):
    """Run a model in this process with JAX, called synchronously. The arguments: see `_JAXCore`."""

    def _open(self, request: Request) -> CallbackSource[TokenEvent]:
        return CallbackSource(request, partial(self._submit, self._prompt_ids(request)), self)

    def _tokenize(self, text: str) -> list[int]:
        return self._encode(text)

    def _free(self) -> None:
        """Close the engine unless the caller passed it; running requests end with an error."""
        self._close_engine()


class AsyncJAXPipeline(_JAXCore, AsyncBaseLLM):
    """Asynchronous `JAXPipeline`."""

    async def _open(self, request: Request) -> AsyncCallbackSource[TokenEvent]:
        prompt = request.prompt or ""
        if len(prompt) < _LONG_PROMPT and MARK not in prompt:  # the first mark loads a second tokenizer
            ids = self._prompt_ids(request)
        else:
            ids = await asyncio.to_thread(self._prompt_ids, request)
        return AsyncCallbackSource(request, partial(self._submit, ids), self)

    async def _tokenize(self, text: str) -> list[int]:
        return self._encode(text)

    async def _free(self) -> None:
        self._close_engine()


def _model_template(model: Path) -> str | None:
    """The model directory as a template argument, None if the directory has no chat template."""
    if not model.is_dir():
        raise ModelLoadError(f"{model}: there is no such model directory")
    return str(model) if has_chat_template(model) else None
