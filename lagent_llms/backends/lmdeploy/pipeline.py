"""`LMDeployPipeline` and `AsyncLMDeployPipeline`: run a model in this process with lmdeploy's engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...content_parts import AcceptedParts
from ...core.base import AsyncBaseLLM, BaseLLM, Prompts
from ...core.batch import with_sessions
from ...core.callbacks import AsyncCallbackSource, CallbackSource
from ...core.llm import LLMCore
from ...core.request import Request
from ...errors import LLMError, ServerError
from ...schema import Completion, Piece, TokenLogprob, Usage
from .engine import BackendName, Event, LMDeployEngine
from .parts import LMDEPLOY_PARTS

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ...params import BackendKwargs, CallKwargs
    from ...templates import TemplateSpec

__all__ = ["AsyncLMDeployPipeline", "LMDeployPipeline"]


class _PipelineCore(LLMCore):
    """A model in this process, run by ``lmdeploy.pipeline``.

    lmdeploy starts worker processes, so a script that constructs this class needs
    ``if __name__ == "__main__":``.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        model_name: Name of the model; None leaves it to lmdeploy.
        tp: Number of GPUs for tensor parallelism.
        pipeline_cfg: Engine options (``cache_max_entry_count``, ``max_batch_size``, ``adapters`` …) and
            keywords of ``lmdeploy.pipeline`` (``chat_template_config``, ``log_level``,
            ``trust_remote_code`` …, or a ready ``backend_config``), checked against the installed lmdeploy.
        backend: 'turbomind' or 'pytorch'; None leaves the choice to lmdeploy.
        meta_template: See `LLMCore`; None lets lmdeploy apply the model's own template.
        session_len: See `LLMCore`; also the engine's context length in tokens, unless `pipeline_cfg` sets it.
        max_concurrency: See `LLMCore`.
        **kwargs: Defaults of any parameter of `GenerationParams` and `CallOptions`.

    Attributes:
        backend: Name of the engine in use.

    Raises:
        InvalidArgument: The installed lmdeploy does not have an option, or rejects its value.
        ModelLoadError: The model cannot be loaded.
        MissingDependency: lmdeploy is not installed, or too old.
    """

    takes_messages: ClassVar[bool] = True
    in_process: ClassVar[bool] = True
    unsupported_parameters = frozenset({"tool_choice"})
    opt_in_parameters = frozenset({"min_new_tokens", "logit_bias", "reasoning_effort"})

    def __init__(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        tp: int = 1,
        pipeline_cfg: Mapping[str, Any] | None = None,
        *,
        backend: BackendName | None = None,
        meta_template: TemplateSpec | None = None,
        session_len: int | None = None,
        max_concurrency: int | Literal["auto"] = "auto",
        **kwargs: Unpack[BackendKwargs],
    ) -> None:
        super().__init__(
            meta_template=meta_template, session_len=session_len, max_concurrency=max_concurrency, **kwargs
        )
        self.path, self.model_name = os.fspath(path), model_name
        # The pytorch engine returns log-probabilities only if a mode is configured.
        defaults = {"tp": tp, "session_len": session_len, "logprobs_mode": "raw_logprobs"}
        self._engine = self._load(backend, pipeline_cfg or {}, defaults)
        self.backend = self._engine.backend

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, backend={self.backend!r})"

    def _load(
        self, backend: BackendName | None, options: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> LMDeployEngine:
        return LMDeployEngine(self.path, self.model_name, backend, options, defaults)

    @property
    def fills_engine(self) -> int | None:
        """See `LLMCore.fills_engine`; no more, because limits of time run in lmdeploy's queue."""
        return self._engine.slots

    @property
    def accepted_parts(self) -> AcceptedParts:
        """See `LLMCore.accepted_parts`; a model that reads text only takes none."""
        return LMDEPLOY_PARTS if self._engine.is_multimodal else AcceptedParts()

    def check_request(self, request: Request) -> None:
        """See `LLMCore.check_request`; turbomind ignores logits processors."""
        if self.backend != "pytorch":
            self.refuse(request, ("logit_bias",), f"with backend={self.backend!r}; 'pytorch' supports it")
        if request.prompt is not None:
            self.refuse(request, ("reasoning_effort",), "for a prompt; messages without a meta_template do")

    def local_vocabulary(self) -> tuple[Collection[str], Callable[[str], str] | None]:
        """See `ContentGuards.local_vocabulary`."""
        return self._engine.marked.special_tokens, self._engine.marked.normalize

    def _submit(
        self, request: Request, on_event: Callable[[Event], None], on_wait: Callable[[bool], None]
    ) -> tuple[Future[None], _Decoder]:
        # lmdeploy does not tell when it admits a request, so `on_wait` is not called.
        return self._engine.submit(request, on_event), _Decoder(self._engine, request)


class _Decoder:
    """Convert lmdeploy's outputs for one request to pieces."""

    def __init__(self, engine: LMDeployEngine, request: Request) -> None:
        self._decode = engine.decode
        self._stop_words = request.stop_words
        self._top = request.params.logprobs or 0

    def piece(self, output: Event) -> Piece | None:
        """Convert one output; None at the end.

        Raises:
            LLMError: The engine failed.
        """
        if output is None:
            return None
        if isinstance(output, LLMError):
            raise output
        reason = output.finish_reason
        if reason not in (None, "stop", "length"):
            raise ServerError(f"lmdeploy's engine ended the answer with {reason!r}", code=str(reason))
        count = output.generate_token_len
        text, tokens, stop_word = output.response, tuple(output.token_ids or ()), None
        if reason == "stop" and tokens:  # the stop token is not part of the answer
            count -= len(tokens)
            stop_word = text if text in self._stop_words else None
            text, tokens = "", ()
        return Piece(
            text=text,
            token_ids=tokens,
            n_tokens=count,
            finish_reason=reason,
            stop_word=stop_word,
            usage=Usage(output.input_token_len, count, getattr(output, "cached_tokens", None)),
            logprobs=self._logprobs(tokens, output.logprobs or ()),
        )

    def _logprobs(self, tokens: tuple[int, ...], rows: Any) -> tuple[TokenLogprob, ...]:
        found = []
        for token, row in zip(tokens, rows, strict=False):
            best = sorted(row.items(), key=lambda item: -item[1])[: self._top]
            top = tuple((self._decode(one), one, float(logprob)) for one, logprob in best)
            found.append(TokenLogprob(self._decode(token), token, float(row[token]), top))
        return tuple(found)


class LMDeployPipeline(_PipelineCore, BaseLLM):
    """Run a model in this process with lmdeploy, called synchronously. The arguments: see `_PipelineCore`."""

    def generate(
        self,
        inputs: str | Prompts,
        session_ids: int | Sequence[int] | None = None,
        *,
        return_dict: bool = False,
        **kwargs: Unpack[CallKwargs],
    ) -> Any:
        """See `BaseLLM.generate`.

        Args:
            inputs: A prompt, or a list of prompts.
            session_ids: See `BaseLLM.generate`.
            return_dict: Return dicts (`text`, `generate_token_len`, `input_token_len`, `finish_reason`,
                `token_ids`, `logprobs`, `index`) instead of texts.
            **kwargs: See `BaseLLM.generate`.
        """
        given: Any = with_sessions(kwargs, session_ids)
        if not return_dict:
            return super().generate(inputs, **given)
        if (n := self.answers_per_input(given)) > 1:
            raise self.one_answer_error(n)
        return _as_dicts(self.complete(inputs, **given))

    def _free(self) -> None:
        """Stop running generations and free the engine's memory."""
        self._engine.close()

    def _open(self, request: Request) -> CallbackSource[Event]:
        return CallbackSource(request, self._submit, self)

    def _tokenize(self, text: str) -> list[int]:
        return self._engine.encode(text, add_bos=True)


class AsyncLMDeployPipeline(_PipelineCore, AsyncBaseLLM):
    """Asynchronous `LMDeployPipeline`. The constructor blocks while it loads the model."""

    async def generate(
        self,
        inputs: str | Prompts,
        session_ids: int | Sequence[int] | None = None,
        *,
        return_dict: bool = False,
        **kwargs: Unpack[CallKwargs],
    ) -> Any:
        """See `LMDeployPipeline.generate`."""
        given: Any = with_sessions(kwargs, session_ids)
        if not return_dict:
            return await super().generate(inputs, **given)
        if (n := self.answers_per_input(given)) > 1:
            raise self.one_answer_error(n)
        return _as_dicts(await self.complete(inputs, **given))

    async def _free(self) -> None:
        self._engine.close()

    async def _open(self, request: Request) -> AsyncCallbackSource[Event]:
        return AsyncCallbackSource(request, self._submit, self)

    async def _tokenize(self, text: str) -> list[int]:
        return self._engine.encode(text, add_bos=True)


def _as_dicts(completions: Completion | list[Completion]) -> dict[str, Any] | list[dict[str, Any]]:
    """Convert to dicts with the fields of lmdeploy's ``Response``, as lagent's LMDeployPipeline returned."""
    if isinstance(completions, list):
        return [_as_dict(completion, index) for index, completion in enumerate(completions)]
    return _as_dict(completions, 0)


def _as_dict(completion: Completion, index: int) -> dict[str, Any]:
    usage = completion.usage
    return {
        "text": completion.text,
        "generate_token_len": usage.completion_tokens if usage else len(completion.token_ids),
        "input_token_len": usage.prompt_tokens if usage else None,
        "finish_reason": completion.finish_reason,
        "token_ids": list(completion.token_ids),
        "logprobs": [
            {item.token_id: item.logprob, **{token: logprob for _, token, logprob in item.top}}
            for item in completion.logprobs
        ]
        or None,
        "index": index,
    }
