"""What every template offers, whatever it is made of: a family file, a list of dicts or a model's Jinja."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import InvalidArgument, TemplateError, UnsupportedParameter
from ..schema import Message, ToolCall
from .history import History, Rendered

if TYPE_CHECKING:
    from .tools import ToolCallFormat

__all__ = ["ChatTemplate", "GuardedTemplate", "marks_in", "text_of"]

#: Put after the first character of a look-alike: invisible, and no tokenizer makes a special token of it.
BREAK = "\u200b"
TRUSTED = frozenset({"system", "assistant"})

_MARK = re.compile(r"<[|｜]?[^<>\s]{1,40}[|｜]?>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|\[\|[^\]\s]+\|\]")


class ChatTemplate(ABC):
    """Turns a dialog into the text of a prompt.

    Attributes:
        name: The family, or where the template came from.
        aliases: Other names of the family.
        bos: Text of the model's BOS token, '' when it has none or it is unknown.
        bos_by: Who puts it before a prompt: 'text' (it is in what `render` returns: the server must not add
            another), 'server' (the tokenizer adds it, as it does by default) or 'none'.
        stop_words: Where an answer ends; used unless the caller gives others.
        special_tokens: Marks of the format, for `guarded`.
        tool_call: How the model writes a tool call, None when that is unknown.
    """

    name: str = ""
    aliases: tuple[str, ...] = ()
    bos: str = ""
    bos_by: Literal["text", "server", "none"] = "none"
    stop_words: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    tool_call: ToolCallFormat | None = None

    @property
    def adds_bos(self) -> bool:
        """Whether rendered text holds the BOS already, so that nobody may add a second one."""
        return self.bos_by == "text"

    @property
    @abstractmethod
    def roles(self) -> tuple[str, ...]:
        """The roles a message may have; '*' stands for any."""

    @abstractmethod
    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """The prompt of a dialog.

        Args:
            messages: The dialog, as `schema.check_messages` returns it.
            add_generation_prompt: Open the assistant's turn at the end (some formats always do).
            tools: Descriptions of tools (OpenAI's form), for a template that has a place for them.
            continue_final_message: Leave the last message open after its content, so that the model goes on
                with it; no generation prompt then.
            options: The template's own keywords (`enable_thinking=False`), and `now`: the moment that dates
                in the template tell (a datetime, or a function that returns one).

        Raises:
            TemplateError: The template does not allow this dialog.
            UnsupportedParameter: Content that is no text, or tools where the template has no place for them.
        """

    def history_text(self, messages: Sequence[Message]) -> str:
        """The text of a dialog that continues: without generation prompt and without closing text."""
        return self.render(messages, add_generation_prompt=False)

    def turn(
        self, history: History, messages: Sequence[Message], *, tools: Sequence[Any] | None = None
    ) -> Rendered:
        """Render the next turn of a dialog: the prompt of `history` and `messages` together.

        Args:
            history: The dialog so far, its last answer included; `History()` begins a new one.
            messages: The messages of this turn.
            tools: See `render`.

        Returns:
            The prompt, and the history to continue from.

        Raises:
            TemplateError: The template does not allow this dialog.
            UnsupportedParameter: As `render`.
        """
        if history.messages is None:  # only the text of bare prompts is known: the new turn follows it
            text = (history.text or "") + self.render(messages, tools=tools).removeprefix(self.bos)
            return Rendered(text, History(None, text))
        dialog = (*history.messages, *messages)
        prompt = self.render(dialog, tools=tools)
        return Rendered(prompt, History(dialog, prompt))

    def parse_tool_calls(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text of an answer without its tool calls, and the calls; all the text when there are none."""
        return (text, ()) if self.tool_call is None else self.tool_call.parse(text)

    def guarded(self, mode: Literal["refuse", "escape"]) -> ChatTemplate:
        """This template, minding texts that look like its special tokens.

        A user's message that holds ``<|im_end|>`` closes its own turn and may open another one: the prompt
        injection of raw templates. The contents of every role but system and assistant are minded.

        Args:
            mode: 'refuse' raises TemplateError, 'escape' breaks the token up with a zero-width space.
        """
        return GuardedTemplate(self, mode)


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
            self._checked(messages),
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            continue_final_message=continue_final_message,
            **options,
        )

    def history_text(self, messages: Sequence[Message]) -> str:
        """As the template behind the guard has it, look-alikes refused or broken up."""
        return self._inner.history_text(self._checked(messages))

    def turn(
        self, history: History, messages: Sequence[Message], *, tools: Sequence[Any] | None = None
    ) -> Rendered:
        """As the template behind the guard renders it, look-alikes refused or broken up."""
        said = history.messages or ()
        if said and history.written is None:  # all of it is rendered; else it has been checked before
            history = replace(history, messages=tuple(self._checked(said)))
        return self._inner.turn(history, self._checked(messages, len(said)), tools=tools)

    def _checked(self, messages: Sequence[Message], first: int = 0) -> list[Message]:
        """`messages`, of which the first is number `first` of the dialog."""
        return [self._minded(message, index) for index, message in enumerate(messages, first)]

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


def marks_in(texts: Sequence[str]) -> tuple[str, ...]:
    """What looks like a special token in the begins and ends of a template."""
    return tuple(dict.fromkeys(mark for text in texts for mark in _MARK.findall(text)))


def text_of(message: Message, index: int, where: str) -> str:
    """The text of a message: its content, or the text parts of it joined.

    Args:
        message: The message.
        index: Its place in the dialog, for the error.
        where: The template, for the error.

    Raises:
        TemplateError: There is no content and no tool call, or it is neither text nor a list of parts.
        UnsupportedParameter: A part that is no text (an image).
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    place = f"{where}: messages[{index}] (role {message.get('role')!r})"
    if content is None:
        if message.get("tool_calls"):
            return ""
        raise TemplateError(f"{place}: content is None")
    if not isinstance(content, (list, tuple)):
        raise TemplateError(f"{place}: content is a {type(content).__name__}, expected a string")
    return "".join(_part(part, f"{place}: content[{number}]") for number, part in enumerate(content))


def _part(part: object, place: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(part, Mapping) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind is None or kind == "text":
        raise TemplateError(f"{place}: expected {{'type': 'text', 'text': …}}, got {part!r}")
    raise UnsupportedParameter(
        f"{place}: a part of type {kind!r}; only text can be rendered", parameter="content"
    )
