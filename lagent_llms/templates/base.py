"""The interface of all templates: family files, lagent's lists of dicts and Jinja chat templates."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from ..copying import CopiedByArguments
from ..errors import InvalidArgument, TemplateError, UnsupportedParameter
from ..messages import RESULT_ROLES
from ..schema import Completion, Message, ToolCall
from .history import History, Rendered

if TYPE_CHECKING:
    from .answers.formats import AnswerMarks
    from .tools import ToolCallFormat

__all__ = ["ChatTemplate", "GuardedTemplate", "marks_in", "text_of"]

#: Inserted after the first character of a special token in a content; invisible.
BREAK = "\u200b"
#: The error for tool calls in a message that a template cannot write.
NO_CALLS = "this template has no format for tool_calls; give the text of the answer as content instead"
TRUSTED = frozenset({"system", "assistant"})

_ROLE = itemgetter("role")
_MARK = re.compile(r"<[|｜]?[^<>\s]{1,40}[|｜]?>|\[/?[A-Z][A-Z_]+\]|<</?[A-Z]+>>|\[\|[^\]\s]+\|\]")


class ChatTemplate(CopiedByArguments, ABC):
    """Turns a dialog into the text of a prompt. Templates can be pickled and copied.

    Attributes:
        name: The family, or where the template came from.
        aliases: Other names of the family.
        bos: Text of the model's BOS token, '' when it has none or it is unknown.
        bos_by: What adds the BOS: 'text' (`render` returns it, the server must not add another), 'server'
            (the tokenizer adds it, as it does by default) or 'none'.
        stop_words: Ends of an answer; used unless the caller gives others.
        special_tokens: Marks of the format, for `guarded`.
        tool_call: How a prompt writes a tool call, None when that is unknown.
        writes_tool_calls: Whether it renders the ``tool_calls`` of a message.
        result_roles: The roles that it renders as results of tools, the usual one first; () if none.
    """

    name: str = ""
    aliases: tuple[str, ...] = ()
    bos: str = ""
    bos_by: Literal["text", "server", "none"] = "none"
    stop_words: tuple[str, ...] = ()
    special_tokens: tuple[str, ...] = ()
    tool_call: ToolCallFormat | None = None
    writes_tool_calls: bool = False
    result_roles: tuple[str, ...] = ()

    @property
    def adds_bos(self) -> bool:
        """Whether rendered text contains the BOS, so that the server must not add a second one."""
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
            messages: The dialog, as `messages.check_messages` returns it.
            add_generation_prompt: Open the assistant's turn at the end (some formats always do).
            tools: Descriptions of tools (OpenAI's form), for a template that has a place for them.
            continue_final_message: Leave the last message open after its content, so that the model continues
                it; no generation prompt then.
            options: The template's own keywords (`enable_thinking=False`), and `now`: the time for dates in
                the template (a datetime, or a function that returns one).

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

    def answer_marks(self) -> AnswerMarks:
        """How the models of this template write reasoning and calls of tools."""
        from .answers.formats import AnswerMarks

        return AnswerMarks(None if self.tool_call is None else self.tool_call.marks)

    def adapted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages of a call in the form that this template renders.

        Results of tools get a role it knows: OpenAI's ``tool`` and ``function`` and lagent's ``environment``
        mean the same, and many templates drop a message of a role they do not know.
        """
        known = self.result_roles
        others = frozenset(RESULT_ROLES).difference(known)
        if not known or others.isdisjoint(map(_ROLE, messages)):
            return messages
        return [{**one, "role": known[0]} if one["role"] in others else one for one in messages]

    def message_of(self, completion: Completion) -> Message:
        """The message of an answer for the history: tool calls stay text if `render` does not write them."""
        message = completion.message()
        if completion.tool_calls and not self.writes_tool_calls:
            del message["tool_calls"]
            message["content"] = completion.text
        return message

    def parse_tool_calls(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text of an answer without its tool calls, and the calls; the whole text if there are none."""
        from .answers.calls import CallReader  # here: slow to import, and rarely needed

        marks = self.answer_marks().calls
        if marks is None:
            return text, ()
        reader = CallReader(marks)
        content, _ = reader.feed(text, final=True)
        return content, reader.calls

    def guarded(self, mode: Literal["refuse", "escape"]) -> ChatTemplate:
        """This template with a check of contents for its special tokens.

        A user's message that contains ``<|im_end|>`` closes its own turn and may open another one: prompt
        injection. The contents of all roles except system and assistant are checked.

        Args:
            mode: 'refuse' raises TemplateError, 'escape' splits the token with a zero-width space.
        """
        return GuardedTemplate(self, mode)


class GuardedTemplate(ChatTemplate):
    """A template that checks contents for its special tokens; see `ChatTemplate.guarded`."""

    def __init__(self, inner: ChatTemplate, mode: Literal["refuse", "escape"]) -> None:
        if mode not in ("refuse", "escape"):
            raise InvalidArgument(f"mode={mode!r}: allowed is 'refuse' or 'escape'", argument="mode")
        self._inner = inner
        self._mode = mode
        self.name, self.bos, self.bos_by = inner.name, inner.bos, inner.bos_by
        self.stop_words, self.special_tokens = inner.stop_words, inner.special_tokens
        self.tool_call, self.writes_tool_calls = inner.tool_call, inner.writes_tool_calls
        self.result_roles = inner.result_roles
        tokens = sorted(filter(None, inner.special_tokens), key=len, reverse=True)
        self._tokens = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the inner template."""
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
        """As the inner template, after the check."""
        return self._inner.render(
            self._checked(messages),
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            continue_final_message=continue_final_message,
            **options,
        )

    def answer_marks(self) -> AnswerMarks:
        """As the inner template."""
        return self._inner.answer_marks()

    def adapted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """As the inner template."""
        return self._inner.adapted(messages)

    def history_text(self, messages: Sequence[Message]) -> str:
        """As the inner template, after the check."""
        return self._inner.history_text(self._checked(messages))

    def turn(
        self, history: History, messages: Sequence[Message], *, tools: Sequence[Any] | None = None
    ) -> Rendered:
        """As the inner template, after the check."""
        said = history.messages or ()
        if said and history.written is None:  # all of it will be rendered; else it has been checked before
            history = replace(history, messages=tuple(self._checked(said)))
        return self._inner.turn(history, self._checked(messages, len(said)), tools=tools)

    def _checked(self, messages: Sequence[Message], first: int = 0) -> list[Message]:
        """`messages` after the check; `first` is the place of the first one in the dialog, for errors."""
        return [self._check(message, index) for index, message in enumerate(messages, first)]

    def _check(self, message: Message, index: int) -> Message:
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
    """The special tokens in the texts of a template, recognized by their form."""
    return tuple(dict.fromkeys(mark for text in texts for mark in _MARK.findall(text)))


def text_of(message: Message, index: int, where: str) -> str:
    """The text of a message: its content, or its text parts joined.

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
