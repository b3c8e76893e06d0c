"""What a dialect is: pure functions that make tensors of a request and pieces of responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ...core.request import Request
from ...errors import UnsupportedParameter
from .conversation import Conversation
from .model_config import ModelConfig
from .text_delta import Habit

__all__ = [
    "Dialect",
    "Model",
    "Tokens",
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


def unsupported(dialect: str, model: Model, name: str, value: object, why: str = "") -> UnsupportedParameter:
    """The error for what a model's dialect cannot honour."""
    return UnsupportedParameter(
        f"model {model.config.name!r} (dialect {dialect}) cannot honour {name}={value!r}{why and ': ' + why}",
        parameter=name,
        backend="TritonClient",
    )
