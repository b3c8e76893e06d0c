"""The interface of all templates: family files, lagent's lists of dicts and Jinja chat templates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..copying import CopiedByArguments
from ..errors import InvalidArgument, TemplateError, UnsupportedParameter
from ..messages import RESULT_ROLES
from ..schema import Completion, Message, ToolCall
from ..validators import shown
from .history import History, Rendered
from .injection import ContentGuard, Mode

if TYPE_CHECKING:
    from .answers.formats import AnswerMarks
    from .tools import ToolCallFormat

__all__ = ["ChatTemplate", "GuardedTemplate", "text_of"]

_T = TypeVar("_T")
#: The error for tool calls in a message that a template cannot write.
NO_CALLS = "this template has no format for tool_calls; give the text of the answer as content instead"

_ROLE = itemgetter("role")


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
        self,
        history: History,
        messages: Sequence[Message],
        /,
        *,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> Rendered:
        """Render the next turn of a dialog: the prompt of `history` and `messages` together.

        Args:
            history: The dialog so far, its last answer included; `History()` begins a new one.
            messages: The messages of this turn.
            tools: See `render`.
            continue_final_message: See `render`.
            options: See `render`; ``now`` may be a date in ISO form.

        Returns:
            The prompt, and the history to continue from.

        Raises:
            TemplateError: The template does not allow this dialog.
            UnsupportedParameter: As `render`.
        """
        if isinstance(now := options.get("now"), str):
            options["now"] = datetime.fromisoformat(now)
        dialog = (*(history.messages or ()), *messages)
        prompt = self.render(dialog, tools=tools, continue_final_message=continue_final_message, **options)
        if history.messages is None:  # only the text of bare prompts is known: the new turn follows it
            text = (history.text or "") + prompt.removeprefix(self.bos)
            return Rendered(text, History(None, text))
        return Rendered(prompt, History(dialog, prompt, continued=continue_final_message))

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

    def guarded(self, mode: Mode) -> GuardedTemplate:
        """This template with a check of contents for special tokens.

        A message that contains ``<|im_end|>`` closes its own turn and may open another one: prompt injection.
        All texts of messages and tools are checked, except what an assistant has said itself.

        Args:
            mode: 'refuse' raises TemplateError, 'escape' splits the token with a zero-width space.
        """
        return GuardedTemplate(self, mode)


class GuardedTemplate(ChatTemplate):
    """A template that checks contents for special tokens; see `ChatTemplate.guarded`.

    Args:
        inner: The template.
        mode: See `ChatTemplate.guarded`.
        vocabulary: See `ContentGuard`.
        normalize: See `ContentGuard`.
    """

    def __init__(
        self,
        inner: ChatTemplate,
        mode: Mode,
        *,
        vocabulary: Collection[str] = (),
        normalize: Callable[[str], str] | None = None,
    ) -> None:
        if mode not in ("refuse", "escape"):
            raise InvalidArgument(f"mode={mode!r}: allowed is 'refuse' or 'escape'", argument="mode")
        self._inner = inner
        self.guard = ContentGuard(
            inner.special_tokens, mode, where=inner.name, vocabulary=vocabulary, normalize=normalize
        )
        self.name, self.bos, self.bos_by = inner.name, inner.bos, inner.bos_by
        self.stop_words, self.special_tokens = inner.stop_words, inner.special_tokens
        self.tool_call, self.writes_tool_calls = inner.tool_call, inner.writes_tool_calls
        self.result_roles = inner.result_roles

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
        tools = self.guard.tools(tools)
        return self._checked(
            messages,
            0,
            lambda checked: self._inner.render(
                checked,
                add_generation_prompt=add_generation_prompt,
                tools=tools,
                continue_final_message=continue_final_message,
                **options,
            ),
            str,
        )

    def answer_marks(self) -> AnswerMarks:
        """As the inner template."""
        return self._inner.answer_marks()

    def adapted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """As the inner template."""
        return self._inner.adapted(messages)

    def history_text(self, messages: Sequence[Message]) -> str:
        """As the inner template, after the check."""
        return self._checked(messages, 0, self._inner.history_text, str)

    def turn(
        self,
        history: History,
        messages: Sequence[Message],
        /,
        *,
        tools: Sequence[Any] | None = None,
        **options: Any,
    ) -> Rendered:
        """As the inner template, after the check."""
        said, tools = history.messages or (), self.guard.tools(tools)
        options = self.guard.options(options)
        if said and history.written is None:  # all of it will be rendered; else it has been checked before
            history = replace(history, messages=tuple(self.guard.messages(said)))
        return self._checked(
            messages,
            len(said),
            lambda checked: self._inner.turn(history, checked, tools=tools, **options),
            lambda rendered: rendered.prompt,
        )

    def _checked(
        self,
        messages: Sequence[Message],
        first: int,
        render: Callable[[Sequence[Message]], _T],
        prompt_of: Callable[[_T], str],
    ) -> _T:
        """Render `messages` after the check.

        Args:
            messages: The messages.
            first: Index of the first one in the dialog, for errors.
            render: Renders them.
            prompt_of: The prompt in what `render` returns.
        """
        guard = self.guard
        if guard.harmless(messages):
            return render(messages)
        checked = guard.messages(messages, first)
        rendered = render(checked)
        apart = guard.without_brackets(checked)
        if apart is checked:
            return rendered
        other = render(apart)
        tokens, rest = guard.special_tokens(prompt_of(rendered)), guard.special_tokens(prompt_of(other))
        if tokens == rest:
            return rendered
        if guard.mode == "refuse":
            raise guard.refusal_of_parts(tokens, rest, first)
        return other


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
        raise TemplateError(f"{place}: expected {{'type': 'text', 'text': …}}, got {shown(part)}")
    raise UnsupportedParameter(
        f"{place}: a part of type {kind!r}; only text can be rendered", parameter="content"
    )
