"""Format the prompts of a `JAXServer` as its configuration says; each method may be overridden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from .config import JAXServerConfig
from .formats import formats_of

if TYPE_CHECKING:
    from ...templates import ChatTemplate

__all__ = ["Prompts"]


class Prompts:
    """The prompt formatting of `JAXServer`.

    Attributes:
        config: Holds the formats.
    """

    config: JAXServerConfig
    _chat_with_system: str | None = None
    _instruct_without_system: str | None = None

    def format_instruct(self, prompt: str, system: str | None = None) -> str:
        """Format an instruction.

        Args:
            prompt: The instruction.
            system: The system message; None takes the configuration's. With the formats of the model's chat
                template, an empty one is no message, as in a chat.
        """
        config = self.config
        system = config.system if system is None else system
        chosen = config.instruct_format
        if not system and self._instruct_without_system is not None:
            chosen = self._instruct_without_system
        return chosen.format(
            instruct=config.prompt_prefix_instruct + prompt + config.prompt_postfix_instruct,
            system=config.system_prefix + system,
        )

    def format_chat(
        self, prompt: str, history: Sequence[Sequence[str]] | None = None, system: str | None = None
    ) -> str:
        """Format a chat.

        Args:
            prompt: The new turn.
            history: Earlier (prompt, answer) pairs.
            system: The system message; None takes the configuration's.

        Raises:
            InvalidArgument: A `history` entry is not a pair of strings.
        """
        config = self.config
        system = config.system if system is None else system
        before = config.chat_prefix
        if system and self._chat_with_system is not None:
            before = self._chat_with_system.format(system=config.system_prefix + system)
        elif system:
            before += config.system_prefix + system
        earlier_turns = self.process_chat_history(list(history or ()))
        return before + earlier_turns + config.prompt_prefix_chat + prompt + config.prompt_postfix_chat

    def process_chat_history(self, history: Sequence[Sequence[str]]) -> str:
        """Format earlier (prompt, answer) pairs with `chat_format`.

        Raises:
            InvalidArgument: An entry is not a pair of strings.
        """
        for index, pair in enumerate(history):
            if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise InvalidArgument(
                    f"history[{index}]={str(pair)[:80]}: allowed is a (prompt, answer) pair of strings",
                    argument="history",
                )
        return "".join(self.config.chat_format.format(prompt=pair[0], assistant=pair[1]) for pair in history)

    def _use_template_formats(self, template: ChatTemplate | None) -> None:
        """Take the formats of the model's chat template, if it has one and the configuration allows it."""
        config, defaults = self.config, JAXServerConfig()
        formats = formats_of(template) if template is not None and config.contains_auto_format else {}
        chat_with_system = formats.pop("chat_with_system", None)
        instruct_without_system = formats.pop("instruct_without_system", None)
        if all(getattr(config, name) == getattr(defaults, name) for name in formats):
            self.config = replace(config, **formats)  # type: ignore[arg-type]
            self._chat_with_system = chat_with_system
            self._instruct_without_system = instruct_without_system
