"""What a dialect is: pure functions that turn a request into tensors and responses into pieces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ...core.request import Request
from ...errors import UnsupportedParameter
from .conversation import Conversation
from .model_config import TritonModelConfig
from .text_delta import OutputStyle

__all__ = ["Dialect", "Model", "Tokenizer", "unsupported"]


class Tokenizer(Protocol):
    """A local tokenizer.

    Attributes:
        decodes: Whether it can `decode`.
    """

    @property
    def decodes(self) -> bool:
        """See the class."""

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a prompt, with a BOS if the model's tokenizer adds one."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Return the text of token ids."""

    def special(self, word: str) -> list[int]:
        """Return the ids of a special token, [] if there is none; '<BOS>' and '<EOS>' are the model's own."""


@dataclass(frozen=True)
class Model:
    """A model at a server, as far as dialects need to know it.

    Attributes:
        config: Its config.
        decoupled: Whether it may send any number of responses; for an ensemble, whether one of its steps may.
        companions: Configs of the models preprocessing and postprocessing, where they exist and are needed.
        bos: The template's BOS. Dialects remove it from prompts, because all these servers add the
            tokenizer's.
        session_len: Most tokens of a session, None for no limit.
        tokenizer: A local tokenizer, None if there is none.
        output_style: Whether responses are cumulative or echo the prompt.
        cache: What a dialect keeps about the model between requests.
    """

    config: TritonModelConfig
    decoupled: bool
    companions: Mapping[str, TritonModelConfig] = field(default_factory=dict)
    bos: str = ""
    session_len: int | None = None
    tokenizer: Tokenizer | None = None
    output_style: OutputStyle = field(default_factory=OutputStyle)
    cache: dict[str, Any] = field(default_factory=dict)


class Dialect(Protocol):
    """How requests to one kind of model are written and its responses read."""

    #: Its name, for ``dialect=``.
    name: ClassVar[str]
    # Optional, `tokenizes: ClassVar[bool]`: prompts may hold `templates.injection.MARK`; default False.

    def missing(self, model: Model) -> list[str]:
        """Return what `model` lacks for this dialect, in words ('input text_input'); [] if it fits."""

    def conversation(self, request: Request, model: Model) -> Conversation:
        """Return the conversation that sends `request` to `model`.

        Raises:
            UnsupportedParameter: The model cannot honour a parameter; nothing was sent.
        """


def unsupported(
    dialect: str, model: Model, name: str, value: object, reason: str = ""
) -> UnsupportedParameter:
    """Return the error for a parameter that a model's dialect cannot honour."""
    return UnsupportedParameter(
        f"model {model.config.name!r} (dialect {dialect}) cannot honour {name}={value!r}"
        + (f": {reason}" if reason else ""),
        parameter=name,
        backend="TritonClient",
    )
