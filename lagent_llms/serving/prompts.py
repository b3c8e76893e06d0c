"""How requests to a `JAXServer` become prompts: the formats of its configuration, each open to overriding."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidArgument
from .config import JAXServerConfig

__all__ = ["Prompts"]


class Prompts:
    """Formats prompts as `config` says.

    Attributes:
        config: The formats.
    """

    config: JAXServerConfig

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
        """The whole prompt of a chat; a system message, where one is given, stands before it."""
        config = self.config
        before = config.chat_prefix + (config.system_prefix + system if system else "")
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
