"""lagent's `HFTransformer`, `HFTransformerCasualLM` and `HFTransformerChat` over `HFTransformers`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..backends.transformers.pipeline import AsyncHFTransformers, HFTransformers, TransformersCore
from ..errors import UnsupportedParameter
from ..params import GenerationParams
from ..templates import LMTemplateParser
from ..templates.api_roles import APIRoles

__all__ = [
    "DEFAULTS",
    "AsyncHFTransformer",
    "AsyncHFTransformerCasualLM",
    "AsyncHFTransformerChat",
    "HFTransformer",
    "HFTransformerCasualLM",
    "HFTransformerChat",
]

#: lagent's defaults, which precede those of the model.
DEFAULTS = {
    name: getattr(GenerationParams, name)
    for name in ("max_new_tokens", "top_p", "top_k", "temperature", "repetition_penalty")
}


class _HFCore(TransformersCore):
    """A causal language model in this process, with the arguments of lagent's ``HFTransformer``.

    Args:
        path: Model directory, or id on the Hugging Face hub.
        tokenizer_path: Directory or id of the tokenizer; None is the model's own.
        tokenizer_kwargs: Keywords of ``AutoTokenizer.from_pretrained``.
        tokenizer_only: False; a tokenizer without its model is not supported.
        model_kwargs: Keywords of ``AutoModelForCausalLM.from_pretrained``.
        meta_template: See `LLMCore`; None uses the model's own chat template.
        stop_words_id: Ids of tokens that end an answer.
        template_parser: `LMTemplateParser` renders with `meta_template`; another one makes the mapping of its
            roles, and the model's own chat template renders the mapped messages.
        **kwargs: Further arguments of `HFTransformers`. As there, and not as in lagent, the code of a
            checkpoint runs only with ``trust_remote_code=True``.

    Raises:
        UnsupportedParameter: `tokenizer_only` is True.
        InvalidArgument: An argument is not allowed.
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | tuple[Any, Any],
        tokenizer_path: str | os.PathLike[str] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        tokenizer_only: bool = False,
        model_kwargs: Mapping[str, Any] | None = None,
        meta_template: Any = None,
        stop_words_id: int | Sequence[int] | None = None,
        *,
        template_parser: Callable[[Any], Callable[[Any], Any]] = LMTemplateParser,
        **kwargs: Any,
    ) -> None:
        if tokenizer_only:
            name = type(self).__name__
            raise UnsupportedParameter(
                f"{name} cannot honour tokenizer_only=True: it loads the model too; for token counts alone "
                "use transformers' AutoTokenizer",
                parameter="tokenizer_only",
                backend=name,
            )
        ids = [stop_words_id] if isinstance(stop_words_id, int) else stop_words_id or ()
        is_own = getattr(template_parser, "__name__", "") == "LMTemplateParser"  # ours or lagent's
        if meta_template is not None and not is_own:
            meta_template = APIRoles(template_parser(meta_template))
        super().__init__(
            path,
            tokenizer_path=tokenizer_path,
            tokenizer_kwargs=tokenizer_kwargs,
            model_kwargs=model_kwargs,
            meta_template=meta_template,
            stop_token_ids=ids,
            **{**DEFAULTS, **kwargs},
        )


class HFTransformer(_HFCore, HFTransformers):
    """`HFTransformers` with the arguments of lagent's ``HFTransformer``; see `_HFCore`."""


class HFTransformerCasualLM(HFTransformer):
    """The same under another name of lagent."""


class HFTransformerChat(HFTransformer):
    """The same under another name; the model's own chat template takes the place of its ``chat`` method."""


class AsyncHFTransformer(_HFCore, AsyncHFTransformers):
    """Asynchronous `HFTransformer`."""


class AsyncHFTransformerCasualLM(AsyncHFTransformer):
    """Asynchronous `HFTransformerCasualLM`."""


class AsyncHFTransformerChat(AsyncHFTransformer):
    """Asynchronous `HFTransformerChat`."""
