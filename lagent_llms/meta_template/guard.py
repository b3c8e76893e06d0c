"""Look-alikes of special tokens inside a user's text: refused or broken up before a template sees them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import InvalidArgument, TemplateError
from ..schema import Message
from .base import ChatTemplate, text_of
from .bulk import nameless
from .schema import Family
from .text import Text

__all__ = ["GuardedTemplate", "marks_in", "special_tokens"]

#: Put after the first character of a look-alike: invisible, and no tokenizer makes a special token of it.
BREAK = "\u200b"
TRUSTED = frozenset({"system", "assistant"})

_MARK = re.compile(r"<[|｜]?[^<>\s]{1,40}[|｜]?>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|\[\|[^\]\s]+\|\]")


def marks_in(texts: Sequence[str]) -> tuple[str, ...]:
    """What looks like a special token in the begins and ends of a template."""
    return tuple(dict.fromkeys(mark for text in texts for mark in _MARK.findall(text)))


def special_tokens(family: Family) -> tuple[str, ...]:
    """The marks of a family: those its file lists, or else those its texts hold."""
    if family.special_tokens:
        return family.special_tokens
    prompt = family.prompt
    found: list[str | Text] = [prompt.begin, prompt.end, prompt.generation]
    for role in (*family.roles.values(), family.others):
        found += [nameless(role), role.end, *(text for case in role.cases for text in case.texts.values())]
    texts = ["".join(text.pieces[::2]) if isinstance(text, Text) else text for text in found]
    return tuple(filter(None, dict.fromkeys((family.bos, family.eos, *family.stop_words, *marks_in(texts)))))


class GuardedTemplate(ChatTemplate):
    """A template behind a look-alike guard; see `ChatTemplate.guarded`."""

    def __init__(self, inner: ChatTemplate, mode: Literal["refuse", "escape"]) -> None:
        if mode not in ("refuse", "escape"):
            raise InvalidArgument(f"mode={mode!r}: allowed is 'refuse' or 'escape'", argument="mode")
        self._inner = inner
        self._mode = mode
        self.name, self.bos, self.bos_by = inner.name, inner.bos, inner.bos_by
        self.stop_words, self.special_tokens = inner.stop_words, inner.special_tokens
        self.tool_call = inner.tool_call
        tokens = sorted(filter(None, inner.special_tokens), key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the template behind the guard."""
        return self._inner.roles

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """As the template behind the guard renders it, look-alikes refused or broken up."""
        return self._inner.render(
            [self._minded(message, index) for index, message in enumerate(messages)],
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            continue_final_message=continue_final_message,
            **options,
        )

    def history_text(self, messages: Sequence[Message]) -> str:
        """As the template behind the guard has it, look-alikes refused or broken up."""
        return self._inner.history_text(
            [self._minded(message, index) for index, message in enumerate(messages)]
        )

    def _minded(self, message: Message, index: int) -> Message:
        if message["role"] in TRUSTED:
            return message
        text = text_of(message, index, self.name)
        found = self._tokens.search(text)
        if found is None:
            return message
        if self._mode == "refuse":
            raise TemplateError(
                f"{self.name}: messages[{index}] (role {message['role']!r}): the content holds {found[0]!r}, "
                "a special token of the template"
            )
        return {
            **message,
            "content": self._tokens.sub(lambda token: token[0][0] + BREAK + token[0][1:], text),
        }
