"""Load a model, its tokenizer, its chat template and its generation parameters with transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ...errors import InvalidArgument, ModelLoadError
from ...templates import ChatTemplate
from ...templates.model_files import has_chat_template

__all__ = [
    "as_pair",
    "context_length",
    "end_ids",
    "generation_defaults",
    "load_model",
    "load_tokenizer",
    "own_template",
    "read_generation_config",
]

Source = str | os.PathLike[str]


def load_tokenizer(path: Source, options: Mapping[str, Any]) -> Any:
    """Load a tokenizer.

    Raises:
        ModelLoadError: There is none, or it cannot be loaded.
    """
    return _load(AutoTokenizer.from_pretrained, path, "tokenizer", options)


def load_model(path: Source, options: Mapping[str, Any]) -> Any:
    """Load a causal language model.

    Raises:
        ModelLoadError: There is none, or it cannot be loaded.
    """
    return _load(AutoModelForCausalLM.from_pretrained, path, "model", options)


def _load(load: Callable[..., Any], path: Source, what: str, options: Mapping[str, Any]) -> Any:
    name = os.path.expanduser(os.fspath(path))
    if (isinstance(path, os.PathLike) or name.startswith((".", os.sep))) and not Path(name).is_dir():
        raise ModelLoadError(f"{path}: there is no such model directory")
    try:
        return load(name, **options)
    except Exception as error:
        raise ModelLoadError(f"{path}: transformers cannot load the {what}: {error}") from error


def read_generation_config(path: Source, options: Mapping[str, Any]) -> Any:
    """The generation_config.json of a model; without one, a configuration in which nothing is set."""
    name = os.path.expanduser(os.fspath(path))
    given = {key: options[key] for key in ("revision", "token", "cache_dir", "subfolder") if key in options}
    try:
        return GenerationConfig.from_pretrained(name, **given)
    except (OSError, ValueError):
        return GenerationConfig()  # type: ignore[no-untyped-call]


def generation_defaults(config: Any) -> dict[str, Any]:
    """The parameters of calls that a generation_config sets; one that does not sample is greedy."""
    found = {
        "temperature": (1.0 if config.temperature is None else config.temperature) if config.do_sample else 0,
        "top_k": config.top_k or None,
        "top_p": config.top_p or 1.0,
        "min_p": config.min_p,
        "repetition_penalty": config.repetition_penalty or 1.0,
        "max_new_tokens": config.max_new_tokens,
    }
    return {name: value for name, value in found.items() if value is not None or name == "top_k"}


def own_template(path: Source | None, tokenizer: Any) -> str | ChatTemplate | None:
    """The chat template of a checkpoint, as a template argument; None if it has none.

    Args:
        path: Where the tokenizer was loaded from, None if the caller passed it.
        tokenizer: The tokenizer.

    Raises:
        TemplateError: The template is not valid.
        MissingDependency: jinja2 is not installed.
    """
    if path is not None and (folder := Path(path).expanduser()).is_dir() and has_chat_template(folder):
        return str(folder)
    if not getattr(tokenizer, "chat_template", None):
        return None
    from ...templates.jinja import JinjaTemplate  # here: it needs jinja2

    tokens = {
        name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)
    }
    return JinjaTemplate(tokenizer.chat_template, where=tokenizer.name_or_path, tokens=tokens)


def end_ids(config: Any, tokenizer: Any, further: Iterable[int]) -> frozenset[int]:
    """Token ids that end an answer: the generation_config's, else the tokenizer's; and `further` ones."""
    own = config.eos_token_id
    if own is None:
        own = tokenizer.eos_token_id
    ids = own if isinstance(own, (list, tuple)) else [] if own is None else [own]
    return frozenset((*map(int, ids), *further))


def context_length(model: Any) -> int | None:
    """Most tokens of a prompt and its answer together, None if the model has no limit."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return length if isinstance(length, int) and length > 1 else None


def as_pair(path: object) -> tuple[Any, Any] | None:
    """`path` as a loaded model and its tokenizer; None if it is a path or hub id.

    Raises:
        InvalidArgument: It is neither.
    """
    if isinstance(path, (str, os.PathLike)):
        return None
    if isinstance(path, (tuple, list)) and len(path) == 2:
        model, tokenizer = path
        if callable(getattr(model, "generate", None)) and callable(getattr(tokenizer, "encode", None)):
            if getattr(model.config, "is_encoder_decoder", False):
                raise InvalidArgument(
                    f"path: {type(model).__name__} is an encoder-decoder model; allowed are causal language "
                    "models",
                    argument="path",
                )
            return model, tokenizer
    raise InvalidArgument(
        f"path is a {type(path).__name__}; allowed is a model directory, a hub id, or (model, tokenizer) of "
        "transformers",
        argument="path",
    )
