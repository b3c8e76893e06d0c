"""What a dialect is, which dialects there are, and which one a model speaks. Pure.

A dialect says in pure functions how a request becomes tensors and how responses become pieces. A third party
adds one with `register_dialect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ...errors import ConfigError, UnsupportedParameter, nearest
from ...request import Request
from .config import ModelConfig
from .inference import Conversation
from .text import Habit

__all__ = [
    "Dialect",
    "Model",
    "Tokens",
    "dialect_named",
    "dialects",
    "find_dialect",
    "register_dialect",
    "unsupported",
]


class Tokens(Protocol):
    """A tokenizer at this side of the wire.

    Attributes:
        decodes: Whether it can `decode`.
    """

    @property
    def decodes(self) -> bool:
        """See above."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with a BOS if that is the model's habit."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """The text of token ids."""

    def special(self, word: str) -> list[int]:
        """Ids of a special token; <BOS> and <EOS> are the model's own; [] when there is none."""


@dataclass(frozen=True)
class Model:
    """A model at a server, as far as dialects need to know it.

    Attributes:
        config: Its config.
        decoupled: Whether it may send any number of responses; of an ensemble, whether a step of it may.
        companions: Configs of the models preprocessing and postprocessing, if they are needed and there.
        bos: The template's BOS; all these servers put the tokenizer's before a prompt themselves.
        session_len: Most tokens of a session, None when no limit was given.
        tokens: A tokenizer at this side of the wire, None when there is none.
        habit: How it tells its text.
        known: What a dialect has found out about it and keeps.
    """

    config: ModelConfig
    decoupled: bool
    companions: Mapping[str, ModelConfig] = field(default_factory=dict)
    bos: str = ""
    session_len: int | None = None
    tokens: Tokens | None = None
    habit: Habit = field(default_factory=Habit)
    known: dict[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    """How one kind of model is asked and understood."""

    #: Its name, for ``dialect=``.
    name: ClassVar[str]

    def missing(self, model: Model) -> list[str]:
        """What it would need of `model`, in words ('input text_input'); [] when it fits."""

    def conversation(self, request: Request, model: Model) -> Conversation:
        """How `request` is had with `model`.

        Raises:
            UnsupportedParameter: The model cannot honour what is asked; nothing was sent.
        """


_DIALECTS: dict[str, Dialect] = {}


def register_dialect(dialect: Dialect) -> None:
    """Add a dialect; one of the same name is replaced. The last one added is tried first."""
    _DIALECTS.pop(dialect.name, None)
    _DIALECTS[dialect.name] = dialect


def dialects() -> list[Dialect]:
    """All dialects, in the order in which they are tried."""
    from . import llmapi, lmdeploy, trtllm, turbomind, vllm  # here: they are made of what this module has

    for module in (lmdeploy, turbomind, llmapi, vllm, trtllm):
        _DIALECTS.setdefault(module.DIALECT.name, module.DIALECT)
    ours = {"lmdeploy", "turbomind", "llmapi", "vllm", "trtllm"}
    others = [dialect for name, dialect in _DIALECTS.items() if name not in ours]
    return [*reversed(others), *(dialect for name, dialect in _DIALECTS.items() if name in ours)]


def dialect_named(name: str) -> Dialect:
    """The dialect called `name`.

    Raises:
        ConfigError: There is none.
    """
    known = {dialect.name: dialect for dialect in dialects()}
    if name not in known:
        raise ConfigError(f"dialect={name!r}{nearest(name, known)}: known are {', '.join(known)}")
    return known[name]


def find_dialect(model: Model, name: str | None = None) -> Dialect:
    """The dialect that `model` speaks.

    Args:
        model: The model.
        name: The dialect the user named, None to find it.

    Raises:
        ConfigError: None fits, or not the one named; lists the inputs and what each would need.
    """
    candidates = dialects() if name is None else [dialect_named(name)]
    needs = []
    for dialect in candidates:
        lacking = dialect.missing(model)
        if not lacking:
            return dialect
        needs.append(f"  {dialect.name} would need {', '.join(lacking)}")
    config = model.config
    raise ConfigError(
        f"model {config.name!r} speaks no dialect that is known here:\n"
        f"  its inputs: {_listed(config.inputs)}\n  its outputs: {_listed(config.outputs)}\n"
        + "\n".join(needs)
    )


def _listed(specs: Mapping[str, Any]) -> str:
    return ", ".join(map(str, specs.values())) or "none"


def unsupported(dialect: str, model: Model, name: str, value: object, why: str = "") -> UnsupportedParameter:
    """The error for what a model's dialect cannot honour."""
    return UnsupportedParameter(
        f"model {model.config.name!r} (dialect {dialect}) cannot honour {name}={value!r}{why and ': ' + why}",
        parameter=name,
        backend="TritonClient",
    )
