"""Find out what a server's model is: its config, what is beside it, its dialect. Pure: yields commands."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...core.request import Request
from ...errors import ConfigError, NotFound, ServerError
from .conversation import Command, Conversation, Describe, Index, InferRequest
from .dialect import Dialect, Model, Tokens
from .dialects.registry import find_dialect
from .dialects.turbomind import PREPROCESSING, ask_tokens
from .model_config import ModelConfig
from .text_delta import Habit

_log = logging.getLogger("lagent_llms.triton")

__all__ = ["Finder", "Found", "Located", "Wanted", "find_model"]

#: The models that LMDeploy's and TensorRT-LLM's deployments put beside the one that answers.
_BESIDE = ("preprocessing", "postprocessing")
#: Which of several models that fit is meant, when none was named.
_USUAL = ("ensemble", "tensorrt_llm_bls", "lmdeploy_model", "turbomind")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said about the model.

    Attributes:
        name: Its name, None for the only one.
        dialect: Its dialect, None to find it.
        bos: The template's BOS.
        session_len: Most tokens of a session.
        tokens: A tokenizer at this side.
        cumulative: Whether responses hold the whole text so far, None to find out.
        echo: Whether the prompt stands before the answer, None to find out.
    """

    name: str | None
    dialect: str | None
    bos: str
    session_len: int | None
    tokens: Tokens | None
    cumulative: bool | None
    echo: bool | None


@dataclass(frozen=True)
class Found:
    """A model and how it is spoken to."""

    model: Model
    dialect: Dialect


Steps = Generator[Command, Any, Found]
AnswerSteps = Generator[Command, Any, None]


def find_model(wanted: Wanted) -> Steps:
    """What is served under the wanted name.

    Raises:
        NotFound: The server has no such model; lists those it has.
        ServerError: The model is there but cannot be used, with the server's reason.
        ConfigError: It speaks no known dialect.
    """
    name = wanted.name
    try:
        entries: Sequence[Mapping[str, Any]] = yield Index()
    except ServerError:  # a server may keep that to itself
        if name is None:
            raise
        return (yield from _look(wanted, name, {name, *_BESIDE}))
    if name is None:
        return (yield from _only_one(wanted, entries))
    states = _by_name(entries)
    if name not in states:
        # For the old chatbot model_name is the model's kind; what is deployed is called turbomind.
        if "turbomind" not in states or wanted.dialect not in (None, "turbomind"):
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
    return (yield from _look(wanted, name, set(states)))


def _by_name(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """State and reason of every model; of several versions those of one that is ready, if any is."""
    states: dict[str, dict[str, str]] = {}
    for entry in entries:
        state = {"state": entry.get("state") or "not loaded", "reason": entry.get("reason") or ""}
        if states.get(entry["name"], state)["state"] != "READY":
            states[entry["name"]] = state
        else:
            states.setdefault(entry["name"], state)
    return states


def _only_one(wanted: Wanted, entries: Sequence[Mapping[str, Any]]) -> Steps:
    names = {name for name, entry in _by_name(entries).items() if entry["state"] == "READY"}
    fitting: dict[str, Found] = {}
    for name in sorted(names):
        try:
            fitting[name] = yield from _look(wanted, name, names)
        except ConfigError:
            continue
    for name in _USUAL if len(fitting) > 1 else ():
        if name in fitting:
            return fitting[name]
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    raise ConfigError(
        f"model_name is needed: of the server's models {', '.join(sorted(names)) or '(none)'} "
        f"{', '.join(fitting) if fitting else 'none'} could be meant"
    )


def _look(wanted: Wanted, name: str, names: set[str]) -> Steps:
    config = ModelConfig.of((yield Describe(name)))
    decoupled = config.decoupled
    for step in config.steps:
        decoupled = decoupled or ModelConfig.of((yield Describe(step))).decoupled
    companions: dict[str, ModelConfig] = {}
    if wanted.tokens is None and ("input_ids" in config.inputs or wanted.session_len is not None):
        for other in _BESIDE:
            if other in names:
                companions |= yield from _beside(other)
    cumulative = wanted.cumulative
    if cumulative is None and config.parameters.get("accumulate_tokens", "").lower() in ("true", "1"):
        cumulative = True
    model = Model(
        config=replace(config, name=name),
        decoupled=decoupled,
        companions=companions,
        bos=wanted.bos,
        session_len=wanted.session_len,
        tokens=wanted.tokens,
        habit=Habit(cumulative=cumulative, echo=wanted.echo),
    )
    return Found(model, find_dialect(model, wanted.dialect))


def _beside(name: str) -> Generator[Command, Any, dict[str, ModelConfig]]:
    """The config of a model beside the one that answers, by its name; nothing when there is none."""
    try:
        return {name: ModelConfig.of((yield Describe(name)))}
    except ServerError:
        return {}


class Finder:
    """Finds the model once, for all calls of one backend.

    Args:
        wanted: What the user said about it.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._found: Found | None = None

    def find(self, *, anew: bool = False) -> Steps:
        """The model; asks the server unless that was done, or `anew`."""
        if self._found is None or anew:
            found = self._found = yield from find_model(self.wanted)
            _log.info("model %r speaks %s", found.model.config.name, found.dialect.name)
        return self._found

    def count(self, text: str) -> Generator[Any, Any, list[int] | None]:
        """Token ids of a prompt, None when neither side has a tokenizer that can be asked."""
        found = yield from self.find()
        model = found.model
        if model.tokens is None and PREPROCESSING not in model.companions:
            companion = yield from _beside(PREPROCESSING)
            if not companion:
                return None
            model = replace(model, companions={**model.companions, **companion})
            self._found = replace(found, model=model)
        return (yield from ask_tokens(model, text.removeprefix(model.bos)))


class Located:
    """The conversation that a request is with the model, which is found first if need be.

    Args:
        finder: Finds the model.
        request: What is asked.
    """

    def __init__(self, finder: Finder, request: Request) -> None:
        self.finder, self._request = finder, request
        self._inner: Conversation | None = None

    @property
    def wait_for(self) -> int | None:
        """See `Conversation`."""
        return None if self._inner is None else self._inner.wait_for

    def steps(self) -> AnswerSteps:
        """See `Conversation`."""
        inner = self._inner or self.with_model((yield from self.finder.find()))
        yield from inner.steps()

    def with_model(self, found: Found) -> Conversation:
        """The conversation with the model that was found."""
        self._inner = found.dialect.conversation(self._request, found.model)
        return self._inner

    def farewell(self) -> InferRequest | None:
        """See `Conversation`."""
        return None if self._inner is None else self._inner.farewell()
