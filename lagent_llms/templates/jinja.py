"""Render a model's own Jinja chat template in jinja2's sandbox, exactly as transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, TemplateError
from ..messages import RESULT_ROLES
from ..schema import Message, ToolCall
from .answers.formats import AnswerMarks, reasoning_in
from .base import NO_CALLS, ChatTemplate, marks_in, text_of
from .placeholders import local_time
from .reasoning import reasoning_of
from .tools import with_decoded_arguments

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["JinjaTemplate"]

#: Special tokens that transformers passes to a template, if the tokenizer has them.
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Marks the end of a message to continue (as in transformers); the space shows whether the template strips.
CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "


@lru_cache(maxsize=64)
def _compile(source: str, where: str) -> Template:
    import jinja2

    from .sandbox import environment

    try:
        return environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{where}, line {error.lineno}: no valid Jinja: {error.message}") from error


class JinjaTemplate(ChatTemplate):
    """A chat template in Jinja.

    Args:
        source: Source of the template, or several sources by name ('default', 'tool_use').
        where: Origin of the template, for errors.
        tokens: Special tokens for the template, by name (bos_token, eos_token …).
        bos_added: True if the tokenizer adds a BOS to every text.
        stop_words: Texts at which an answer ends.

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
    ) -> None:
        sources = {"default": source} if isinstance(source, str) else dict(source)
        if "default" not in sources:
            raise TemplateError(
                f"{where}: there is no template named 'default' (templates: {', '.join(sources)}); "
                "meta_template={'path': …, 'chat_template': NAME} chooses one"
            )
        _require_jinja()
        self.name = where
        self._templates = {name: _compile(text, f"{where} ({name})") for name, text in sources.items()}
        self._sources = sources
        self._tokens = dict(tokens or {})
        self.bos = self._tokens.get("bos_token", "")
        writes_bos = "bos_token" in sources["default"] or (self.bos and self.bos in sources["default"])
        self.bos_by = "text" if self.bos and writes_bos else "server" if self.bos and bos_added else "none"
        self.stop_words = tuple(stop_words)
        self.special_tokens = tuple(
            dict.fromkeys((*self._tokens.values(), *self.stop_words, *marks_in(list(sources.values()))))
        )

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
        chosen = options.pop("chat_template", None)
        if chosen is not None and chosen not in self._templates:
            raise TemplateError(
                f"chat_template={chosen!r}: {self.name} has the templates {', '.join(self._templates)}"
            )
        chat = [_plain_message(message, index, self.name) for index, message in enumerate(messages)]
        if continue_final_message:
            if not isinstance(chat[-1].get("content"), str):
                raise TemplateError(f"{self.name}: the last message has no content to continue")
            chat[-1]["content"] += CONTINUE
        usual = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        template = self._templates[chosen or usual]
        variables = {
            **self._tokens,
            "strftime_now": lambda layout: (now() if callable(now) else now).strftime(layout),
            **_plain(options),
        }
        try:
            text = template.render(
                messages=chat,
                tools=None if tools is None else _plain(tools),
                documents=variables.pop("documents", None),
                add_generation_prompt=add_generation_prompt and not continue_final_message,
                **variables,
            )
        except Exception as error:
            raise TemplateError(f"{self.name}: {error or type(error).__name__}") from error
        return self._truncate_after_content(text, chat) if continue_final_message else text

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

    def _truncate_after_content(self, text: str, chat: Sequence[Mapping[str, Any]]) -> str:
        """Truncate `text` after the content of its last message."""
        content = chat[-1]["content"].removesuffix(CONTINUE).strip()
        at = text.rfind(CONTINUE.strip())
        if at < 0 or content not in text:
            raise TemplateError(
                f"{self.name}: the template changes the last message, so it cannot be continued"
            )
        return text[:at] if text[at : at + len(CONTINUE)] == CONTINUE else text[:at].rstrip()


def _require_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency.of("jinja2", "jinja") from error


def _plain_message(message: Message, index: int, where: str) -> dict[str, Any]:
    """Convert a message to plain data: text parts joined, reasoning under both names that templates read.

    Keys with None (as OpenAI's SDK dumps) are omitted, as transformers 5 does: a template would write 'None'.
    """
    given = with_decoded_arguments(_plain(message))
    plain: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if plain.get("content") is not None or not plain.get("tool_calls"):
        plain["content"] = text_of(message, index, where)
    reasoning = reasoning_of(plain)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _plain(value: Any) -> Any:
    """Convert `value` to plain JSON types, so that a template cannot call methods of objects."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, ToolCall):
        return value.to_openai()
    if callable(dump := getattr(value, "model_dump", None)):
        return _plain(dump())
    return f"<{type(value).__name__}>"
