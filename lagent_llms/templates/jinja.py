"""Render a model's own Jinja chat template in jinja2's sandbox, exactly as transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, TemplateError
from ..messages import RESULT_ROLES
from ..schema import Message
from .answers.formats import AnswerMarks, reasoning_in
from .base import NO_CALLS, ChatTemplate
from .jinja_messages import call_names, holds, plain, plain_message, with_contents, with_text
from .limits import LimitExceeded, TemplateLimits
from .marks import marks_in
from .placeholders import local_time

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["JinjaTemplate"]

#: Special tokens that transformers passes to a template, if the tokenizer has them.
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Options that users of several models give to all: a template that does not read them ignores them.
_USUAL = frozenset(("enable_thinking", "thinking", "documents", "reasoning_effort", "chat_template", *TOKENS))
#: How similar a misspelled name is, from 0 to 1.
_NEAR = 0.8
#: Marks the end of a message to continue (as in transformers); the space shows whether the template strips.
CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "


@lru_cache(maxsize=64)
def _compile(source: str, where: str, limits: TemplateLimits) -> Template:
    import jinja2

    from .sandbox import environment

    if len(source) > limits.source:
        exceeded = LimitExceeded("source", f"has {len(source)} characters")
        raise TemplateError(f"{where}: {exceeded.explained(limits)}")
    sandbox = environment()
    sandbox.budget.start(limits)
    try:
        return sandbox.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{where}, line {error.lineno}: no valid Jinja: {error.message}") from error
    except Exception as error:  # Python's own limits of nesting: RecursionError, MemoryError, SyntaxError
        raise TemplateError(f"{where}: {_reason(error, limits)}") from error


@lru_cache(maxsize=64)
def _variables(source: str) -> frozenset[str]:
    """The variables that a template reads."""
    from jinja2 import meta

    from .sandbox import environment

    return frozenset(meta.find_undeclared_variables(environment().parse(source)))


def _reason(error: Exception, limits: TemplateLimits) -> str:
    """Why a template cannot be compiled or rendered."""
    if isinstance(error, LimitExceeded):
        return error.explained(limits)
    if isinstance(error, RecursionError):
        return "the template is nested, or calls itself, too deeply"
    if isinstance(error, SyntaxError):
        return f"the template is nested too deeply ({error.msg})"
    if isinstance(error, MemoryError):
        return "the template needs more memory than there is"
    return f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)


class JinjaTemplate(ChatTemplate):
    """A chat template in Jinja.

    Args:
        source: Source of the template, or several sources by name ('default', 'tool_use').
        where: Origin of the template, for errors.
        tokens: Special tokens for the template, by name (bos_token, eos_token …).
        bos_added: True if the tokenizer adds a BOS to every text.
        stop_words: Texts at which an answer ends.
        limits: What the template may use: `TemplateLimits`, or a dict of those that differ from the defaults.

    Raises:
        TemplateError: A source is not valid Jinja, or none is named 'default'.
        MissingDependency: jinja2 is not installed.
    """

    def __init__(
        self,
        source: str | Mapping[str, str],
        *,
        where: str = "Jinja template",
        tokens: Mapping[str, str] | None = None,
        bos_added: bool = False,
        stop_words: Sequence[str] = (),
        limits: TemplateLimits | Mapping[str, Any] | None = None,
    ) -> None:
        self._limits = TemplateLimits.of(limits)
        sources = {"default": source} if isinstance(source, str) else dict(source)
        if "default" not in sources:
            raise TemplateError(
                f"{where}: there is no template named 'default' (templates: {', '.join(sources)}); "
                "meta_template={'path': …, 'chat_template': NAME} chooses one"
            )
        _require_jinja()
        self.name = where
        self._templates = {
            name: _compile(text, f"{where} ({name})", self._limits) for name, text in sources.items()
        }
        self._variables = frozenset().union(*(_variables(text) for text in sources.values()))
        self._sources = sources
        self._tokens = dict(tokens or {})
        self.bos = self._tokens.get("bos_token", "")
        writes_bos = "bos_token" in sources["default"] or (self.bos and self.bos in sources["default"])
        self.bos_by = "text" if self.bos and writes_bos else "server" if self.bos and bos_added else "none"
        self.stop_words = tuple(stop_words)
        marks = (*self._tokens.values(), *self.stop_words, *marks_in(list(sources.values())))
        self.special_tokens = tuple(filter(None, dict.fromkeys(marks)))
        self.writes_tool_calls = any("tool_calls" in text for text in sources.values())
        self.result_roles = tuple(
            role
            for role in RESULT_ROLES
            if any(f"'{role}'" in text or f'"{role}"' in text for text in sources.values())
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """Any role ('*'): which roles the template rejects shows only while rendering."""
        return ("*",)

    def answer_marks(self) -> AnswerMarks:
        """See `ChatTemplate.answer_marks`; found by what the template renders for a call."""
        return self._answer_marks

    @cached_property
    def _answer_marks(self) -> AnswerMarks:
        from .answers.detection import detect_format  # here: not every template's answers are read

        source = "\n".join(self._sources.values())
        return AnswerMarks(detect_format(self.render, source), reasoning_in(source))

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """See `ChatTemplate.render`. `chat_template` names a template; other options are its variables."""
        now = options.pop("now", local_time)
        self._check_names(options)
        chosen = options.pop("chat_template", None)
        if chosen is not None and chosen not in self._templates:
            raise TemplateError(
                f"chat_template={chosen!r}: {self.name} has the templates {', '.join(self._templates)}"
            )
        chat = [plain_message(message, index, self.name) for index, message in enumerate(messages)]
        usual = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        variables = {
            **self._tokens,
            "documents": None,
            "strftime_now": lambda layout: (now() if callable(now) else now).strftime(layout),
            **plain(options),
            "tools": None if tools is None else plain(tools),
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        write = partial(self._write, self._templates[chosen or usual], variables, continue_final_message)
        if parts := [part for message in chat if isinstance(message.get("content"), list)
                     for part in message["content"]]:  # fmt: skip
            with suppress(TemplateError):
                if holds(text := write(chat), parts):
                    return text
            chat = [with_text(message, index, self.name) for index, message in enumerate(chat)]
        return write(chat)

    def adapted(self, messages: Sequence[Message]) -> Sequence[Message]:
        """See `ChatTemplate.adapted`.

        Raises:
            TemplateError: A message has tool calls, which the template would leave out.
        """
        if not self.writes_tool_calls:
            for index, message in enumerate(messages):
                if message.get("tool_calls"):
                    raise TemplateError(
                        f"{self.name}: messages[{index}] (role {message['role']!r}): {NO_CALLS}"
                    )
        return super().adapted(messages)

    def _check_names(self, options: Mapping[str, Any]) -> None:
        """Refuse an option that no template reads, if its name looks like a misspelled one."""
        for name in set(options) - self._variables - _USUAL:
            if near := get_close_matches(name, self._variables, n=1, cutoff=_NEAR):
                raise TemplateError(f"{self.name}: the template reads no {name!r}, did you mean {near[0]!r}?")

    def _write(
        self, template: Template, variables: Mapping[str, Any], continued: bool, chat: list[dict[str, Any]]
    ) -> str:
        """Render messages of plain data; the text ends after the last content if that is `continued`."""
        said = ""
        if continued:
            said, chat = self._mark_end(chat)
        try:
            text = self._rendered(template, {**variables, "messages": chat})
        except Exception as error:
            found = (
                None if isinstance(error, LimitExceeded) else self._written_calls(template, variables, chat)
            )
            if found is None:
                raise TemplateError(f"{self.name}: {_reason(error, self._limits)}") from error
            text = found
        if not continued:
            return text
        at = text.rfind(CONTINUE.strip())
        if at < 0 or said.strip() not in text:
            raise TemplateError(
                f"{self.name}: the template changes the last message, so it cannot be continued"
            )
        return text[:at] if text[at : at + len(CONTINUE)] == CONTINUE else text[:at].rstrip()

    def _written_calls(
        self, template: Template, variables: Mapping[str, Any], chat: list[dict[str, Any]]
    ) -> str | None:
        """The text of a dialog whose calls have a content, for a template that needs one, or None."""
        for content in (None, ""):
            if (messages := with_contents(chat, content)) is not None:
                with suppress(Exception):
                    text = self._rendered(template, {**variables, "messages": messages})
                    if all(name in text for name in call_names(messages)):
                        return text
        return None

    def _mark_end(self, chat: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        """Last text of a dialog, and the dialog with `CONTINUE` after it."""
        last = dict(chat[-1])
        content = last.get("content")
        if isinstance(content, list):
            text = content[-1]["text"]
            last["content"] = [*content[:-1], {**content[-1], "text": text + CONTINUE}]
        elif isinstance(content, str):
            text, last["content"] = content, content + CONTINUE
        else:
            raise TemplateError(f"{self.name}: the last message has no content to continue")
        return text, [*chat[:-1], last]

    def _rendered(self, template: Template, variables: Mapping[str, Any]) -> str:
        from .sandbox import environment

        budget = environment().budget
        budget.start(self._limits)
        return budget.joined(template.generate(variables))


def _require_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency.of("jinja2", "jinja") from error
