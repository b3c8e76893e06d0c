"""Resolve a server's model: its config, its companions, its dialect. Pure: yields commands."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from ...core.request import Request
from ...errors import ConfigError, NotFound, ServerError
from ...templates.injection import without_marks
from .conversation import Command, Conversation, GetModelConfig, InferRequest, ListModels
from .dialect import Dialect, Model, Tokenizer
from .dialects.registry import find_dialect
from .dialects.turbomind import PREPROCESSING, tokenize_prompt
from .model_config import TritonModelConfig
from .text_delta import OutputStyle

_log = logging.getLogger("lagent_llms.triton")

__all__ = ["Finder", "LazyConversation", "ModelSelector", "ResolvedModel", "find_model", "list_models"]

#: Models that deployments of LMDeploy and TensorRT-LLM put beside the generating one.
_COMPANIONS = ("preprocessing", "postprocessing")
#: If no model is named and several fit, the first of these is taken.
_PREFERRED = ("ensemble", "tensorrt_llm_bls", "lmdeploy_model", "turbomind")


@dataclass(frozen=True, slots=True)
class ModelSelector:
    """What the user has said about the model.

    Attributes:
        name: Its name, None for the only one that fits.
        dialect: Its dialect, None to detect it.
        bos: The template's BOS.
        session_len: Most tokens of a session.
        tokenizer: A local tokenizer.
        cumulative: Whether responses hold the whole text so far, None to detect it.
        echo: Whether the prompt stands before the answer, None to detect it.
    """

    name: str | None
    dialect: str | None
    bos: str
    session_len: int | None
    tokenizer: Tokenizer | None
    cumulative: bool | None
    echo: bool | None


@dataclass(frozen=True)
class ResolvedModel:
    """A model and its dialect."""

    model: Model
    dialect: Dialect


Steps = Generator[Command, Any, ResolvedModel]


def find_model(selector: ModelSelector) -> Steps:
    """Find the model that `selector` describes.

    Raises:
        NotFound: The server has no such model; the message lists those it has.
        ServerError: The model exists but is not ready; the message holds the server's reason.
        ConfigError: The model fits no known dialect.
    """
    name = selector.name
    try:
        states = yield from list_models()
    except ServerError:  # servers may restrict access to their repository
        if name is None:
            raise
        return (yield from _resolve(selector, name, {name, *_COMPANIONS}))
    if name is None:
        return (yield from _find_only(selector, states))
    if name not in states:
        # LMDeploy's old chatbot used model_name for the kind of model; the deployed model is 'turbomind'.
        if "turbomind" not in states or selector.dialect not in (None, "turbomind"):
            raise NotFound(
                f"the server has no model {name!r}; it has {', '.join(sorted(states)) or 'none'}",
                status_code=404,
            )
        name = "turbomind"
    if states[name]["state"] != "READY":
        reason = states[name].get("reason") or "no reason given"
        raise ServerError(
            f"model {name!r} is {states[name]['state']}: {reason.strip()}",
            status_code=503,
            code="UNAVAILABLE",
        )
    return (yield from _resolve(selector, name, set(states)))


def list_models() -> Generator[Command, Any, dict[str, dict[str, str]]]:
    """Return state and reason of the repository's models by name; of several versions, a ready one counts.

    Raises:
        ServerError: The server does not list its models, or the list cannot be read.
    """
    entries = yield ListModels()
    states: dict[str, dict[str, str]] = {}
    try:
        for entry in entries:
            name = str(entry["name"])
            if states.get(name, {}).get("state") != "READY":
                state, reason = entry.get("state") or "not loaded", entry.get("reason") or ""
                states[name] = {"state": str(state), "reason": str(reason)}
    except (AttributeError, KeyError, TypeError) as error:
        raise ServerError(f"the server sent a list of models that cannot be read: {error!r}") from error
    return states


def _find_only(selector: ModelSelector, states: Mapping[str, Mapping[str, str]]) -> Steps:
    names = {name for name, state in states.items() if state["state"] == "READY"}
    fitting: dict[str, ResolvedModel] = {}
    for name in sorted(names):
        try:
            fitting[name] = yield from _resolve(selector, name, names)
        except ConfigError:
            continue
    for name in _PREFERRED if len(fitting) > 1 else ():
        if name in fitting:
            return fitting[name]
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    raise ConfigError(
        f"model_name is needed: of the server's models ({', '.join(sorted(names)) or 'none'}) "
        f"{', '.join(fitting) if fitting else 'none'} could be meant"
    )


def _resolve(selector: ModelSelector, name: str, names: set[str]) -> Steps:
    """Read the configs of model `name` and of what it needs out of `names`; find its dialect."""
    config = TritonModelConfig.from_json((yield GetModelConfig(name)))
    decoupled = config.decoupled
    for step in config.steps:
        decoupled = decoupled or TritonModelConfig.from_json((yield GetModelConfig(step))).decoupled
    companions: dict[str, TritonModelConfig] = {}
    if selector.tokenizer is None and ("input_ids" in config.inputs or selector.session_len is not None):
        for other in _COMPANIONS:
            if other in names:
                companions |= yield from _companion(other)
    cumulative = selector.cumulative
    if cumulative is None and config.settings.get("accumulate_tokens", "").lower() in ("true", "1"):
        cumulative = True
    model = Model(
        config=replace(config, name=name),
        decoupled=decoupled,
        companions=companions,
        bos=selector.bos,
        session_len=selector.session_len,
        tokenizer=selector.tokenizer,
        output_style=OutputStyle(cumulative=cumulative, echo=selector.echo),
    )
    return ResolvedModel(model, find_dialect(model, selector.dialect))


def _companion(name: str) -> Generator[Command, Any, dict[str, TritonModelConfig]]:
    """Return the config of a companion model by its name, {} if the server has no such model."""
    try:
        return {name: TritonModelConfig.from_json((yield GetModelConfig(name)))}
    except ServerError:
        return {}


class Finder:
    """Resolves the model once for all calls of one backend.

    Args:
        selector: What the user has said about the model.
    """

    def __init__(self, selector: ModelSelector) -> None:
        self.selector = selector
        self._resolved: ResolvedModel | None = None

    def find(self, *, refresh: bool = False) -> Steps:
        """Return the model; calls the server the first time, and each time with `refresh`."""
        if self._resolved is None or refresh:
            resolved = self._resolved = yield from find_model(self.selector)
            _log.info("model %r has the dialect %s", resolved.model.config.name, resolved.dialect.name)
        return self._resolved

    def identity(self) -> Generator[Any, Any, str]:
        """Return the model's name, with a hash of its config: many servers call their model 'ensemble'."""
        config = (yield from self.find()).model.config
        return f"{config.name} {blake2b(repr(config).encode(), digest_size=8).hexdigest()}"

    def tokenize(self, text: str) -> Generator[Any, Any, list[int] | None]:
        """Return the token ids of a prompt; None if neither client nor server can tokenize."""
        resolved = yield from self.find()
        model = resolved.model
        if model.tokenizer is None and PREPROCESSING not in model.companions:
            companion = yield from _companion(PREPROCESSING)
            if not companion:
                return None
            model = replace(model, companions={**model.companions, **companion})
            self._resolved = replace(resolved, model=model)
        return (yield from tokenize_prompt(model, text.removeprefix(model.bos)))


class LazyConversation:
    """A conversation whose model is resolved at its first step.

    Args:
        finder: Resolves the model.
        request: What to send.
    """

    def __init__(self, finder: Finder, request: Request) -> None:
        self.finder, self._request = finder, request
        self._conversation: Conversation | None = None

    @property
    def server_session(self) -> int | None:
        """See `Conversation`."""
        return None if self._conversation is None else self._conversation.server_session

    def steps(self) -> Generator[Command, Any, None]:
        """See `Conversation`."""
        conversation = self._conversation or self.bind((yield from self.finder.find()))
        yield from conversation.steps()

    def bind(self, resolved: ResolvedModel) -> Conversation:
        """Return the conversation with the resolved model, and use it from now on."""
        request = self._request
        if request.prompt is not None and not getattr(resolved.dialect, "tokenizes", False):
            request.prompt = without_marks(request.prompt)
        self._conversation = resolved.dialect.conversation(request, resolved.model)
        return self._conversation

    def cancel_request(self) -> InferRequest | None:
        """See `Conversation`."""
        return None if self._conversation is None else self._conversation.cancel_request()
