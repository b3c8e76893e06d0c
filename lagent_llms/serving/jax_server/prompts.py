"""How requests to a `JAXServer` become prompts: the formats of its configuration, each open to overriding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...errors import InvalidArgument
from .config import JAXServerConfig
from .formats import own_formats

if TYPE_CHECKING:
    from ...templates import ChatTemplate

__all__ = ["Prompts"]


class Prompts:
    """Formats prompts as `config` says.

    Attributes:
        config: The formats.
    """

    config: JAXServerConfig
    _chat_with_system: str | None = None

    def format_instruct(self, prompt: str, system: str | None = None) -> str:
        """The whole prompt of an instruction; without a system message it is the configuration's."""
        config = self.config
        return config.instruct_format.format(
            instruct=config.prompt_prefix_instruct + prompt + config.prompt_postfix_instruct,
            system=config.system_prefix + (config.system if system is None else system),
        )

    def format_chat(
        self, prompt: str, history: Sequence[Sequence[str]] | None = None, system: str | None = None
    ) -> str:
        """The whole prompt of a chat; without a system message it is the configuration's."""
        config = self.config
        told = config.system if system is None else system
        before = config.chat_prefix
        if told and self._chat_with_system is not None:
            before = self._chat_with_system.format(system=config.system_prefix + told)
        elif told:
            before += config.system_prefix + told
        past = self.process_chat_history(list(history or ()))
        return before + past + config.prompt_prefix_chat + prompt + config.prompt_postfix_chat

    def process_chat_history(self, history: Sequence[Sequence[str]]) -> str:
        """Earlier (prompt, answer) pairs as text.

        Raises:
            InvalidArgument: An entry that is no pair of texts.
        """
        for index, pair in enumerate(history):
            if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
                raise InvalidArgument(
                    f"history[{index}]={str(pair)[:80]}: allowed is a (prompt, answer) pair of texts",
                    argument="history",
                )
        return "".join(self.config.chat_format.format(prompt=one[0], assistant=one[1]) for one in history)

    def _use_own_format(self, template: ChatTemplate | None) -> None:
        """Take the model's own format, if the configuration leaves it open and the model has one."""
        config, defaults = self.config, JAXServerConfig()
        formats = own_formats(template) if template is not None and config.contains_auto_format else {}
        self._chat_with_system = formats.pop("chat_with_system", None)
        if all(getattr(config, name) == getattr(defaults, name) for name in formats):
            self.config = replace(config, **formats)  # type: ignore[arg-type]
        else:
            self._chat_with_system = None
