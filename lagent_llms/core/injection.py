"""What a backend does with special tokens in contents: a guard for each mode."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ..templates.base import GuardedTemplate
from ..templates.injection import ContentGuard

if TYPE_CHECKING:
    from ..params import CallOptions
    from ..schema import Message
    from ..templates import ChatTemplate
    from ..templates.injection import Mode

__all__ = ["ContentGuards"]

Normalize = Callable[[str], str]


class ContentGuards:
    """The guards of one backend, for calls whose `CallOptions.injection` is not 'allow'.

    Attributes:
        template: The backend's template, None if the server renders messages.
    """

    template: ChatTemplate | None
    _guards: Mapping[str, ContentGuard] = {}
    _templates: Mapping[str, GuardedTemplate] = {}

    def local_vocabulary(self) -> tuple[Collection[str], Normalize | None]:
        """The special tokens of the tokenizer, and what it does to a text before it looks for them.

        For backends that tokenize in this process: their prompts may hold `MARK`. All others: ((), None).
        """
        return (), None

    def _guarded_template(self, mode: Mode) -> ChatTemplate | None:
        """The template with the guard of `mode`; None if there is no template."""
        if self.template is None:
            return None
        if mode in self._templates:
            return self._templates[mode]
        vocabulary, normalize = self.local_vocabulary()
        made = GuardedTemplate(self.template, mode, vocabulary=vocabulary, normalize=normalize)
        self._templates = {**self._templates, mode: made}
        return made

    def _checked(self, messages: Sequence[Message], mode: Mode, first: int) -> Sequence[Message]:
        """Messages that the server renders, checked; `first` is the index of the first one in the dialog."""
        guard = self._guard(mode)
        if guard.harmless(messages):
            return messages
        return guard.apart(guard.messages(messages, first), first)

    def _guard(self, mode: Mode) -> ContentGuard:
        """The guard for what the server renders."""
        if mode not in self._guards:
            made = ContentGuard(None, mode, where=type(self).__name__)
            self._guards = {**self._guards, mode: made}
        return self._guards[mode]

    def _guarded_options(self, options: CallOptions, mode: Mode) -> CallOptions:
        """`options` with the tools and the template's variables checked, if a server renders them."""
        if self.template is not None:
            return options
        tools, variables = options.tools, options.chat_template_kwargs
        if not tools and not variables:
            return options
        guard = self._guard(mode)
        checked = {"tools": guard.tools(tools), "chat_template_kwargs": guard.options(dict(variables or {}))}
        return options.changed({name: value for name, value in checked.items() if value})
