"""Render a model's own Jinja chat template in jinja2's sandbox, exactly as transformers does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, TemplateError
from ..schema import Message
from .base import ChatTemplate, marks_in, text_of
from .placeholders import local_time

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["JinjaTemplate"]

#: Keys of a message's reasoning; most templates read the first, gpt-oss the second.
REASONING = ("reasoning_content", "thinking", "reasoning")
#: Special tokens that transformers passes to a template, if the tokenizer has them.
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Marks the end of a message to continue (as in transformers); the space shows whether the template strips.
CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "
#: What a template that does not read parts writes in their place: Python's notation, or JSON.
NOTATIONS = ("'type': 'text'", '"type": "text"')


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
        marks = (*self._tokens.values(), *self.stop_words, *marks_in(list(sources.values())))
        self.special_tokens = tuple(filter(None, dict.fromkeys(marks)))

    @property
    def roles(self) -> tuple[str, ...]:
        """Any role ('*'): which roles the template rejects shows only while rendering."""
        return ("*",)

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
        usual = "tool_use" if tools is not None and "tool_use" in self._templates else "default"
        variables = {
            **self._tokens,
            "documents": None,
            "strftime_now": lambda layout: (now() if callable(now) else now).strftime(layout),
            **_plain(options),
            "tools": None if tools is None else _plain(tools),
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        write = partial(self._write, self._templates[chosen or usual], variables, continue_final_message)
        if parts := [part for message in chat if isinstance(message.get("content"), list)
                     for part in message["content"]]:  # fmt: skip
            with suppress(TemplateError):
                if _holds(text := write(chat), parts):
                    return text
            chat = [_with_text(message, index, self.name) for index, message in enumerate(chat)]
        return write(chat)

    def _write(
        self, template: Template, variables: Mapping[str, Any], continued: bool, chat: list[dict[str, Any]]
    ) -> str:
        """Render messages of plain data; the text ends after the last content if that is `continued`."""
        said = ""
        if continued:
            said, chat = self._mark_end(chat)
        try:
            text = template.render(variables, messages=chat)
        except Exception as error:
            raise TemplateError(f"{self.name}: {error or type(error).__name__}") from error
        if not continued:
            return text
        at = text.rfind(CONTINUE.strip())
        if at < 0 or said.strip() not in text:
            raise TemplateError(
                f"{self.name}: the template changes the last message, so it cannot be continued"
            )
        return text[:at] if text[at : at + len(CONTINUE)] == CONTINUE else text[:at].rstrip()

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


def _require_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency.of("jinja2", "jinja") from error


def _plain_message(message: Message, index: int, where: str) -> dict[str, Any]:
    """Convert a message to plain data: reasoning under both names that templates read, arguments decoded.

    Keys with None (as OpenAI's SDK dumps) are omitted, as transformers 5 does: a template would write 'None'.
    """
    if (
        type(message) is dict
        and len(message) == 2
        and type(message.get("content")) is str
        and type(message.get("role")) is str
    ):
        return message  # the sandbox does not let a template change it
    plain: dict[str, Any] = {key: value for key, value in _plain(message).items() if value is not None}
    if isinstance(calls := plain.get("tool_calls"), list):
        for call in calls:
            _decode_arguments(call)
    if "content" in plain:
        text = text_of(message, index, where)  # checks the type of the content and of its parts
        parts = plain["content"]
        if not (isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts)):
            plain["content"] = text
    reasoning = next((plain[key] for key in REASONING if plain.get(key) is not None), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _with_text(message: dict[str, Any], index: int, where: str) -> dict[str, Any]:
    """`message` with text as its content, for a template that does not read parts."""
    parts = isinstance(message.get("content"), list)
    return {**message, "content": text_of(message, index, where)} if parts else message


def _holds(text: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    """True if a template has written the texts of `parts`, and not a notation of the parts themselves."""
    return not any(mark in text for mark in NOTATIONS) and all(part["text"].strip() in text for part in parts)


def _decode_arguments(call: object) -> None:
    """Decode the arguments of a tool call if they are a JSON object as a string: templates encode them."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
        from ..untrusted import DECODE_ERRORS, read_json  # here: slow to import, and rarely needed

        with suppress(*DECODE_ERRORS):
            decoded = read_json(arguments)
            function["arguments"] = decoded if isinstance(decoded, dict) else arguments


def _plain(value: Any) -> Any:
    """Convert `value` to plain JSON types, so that a template cannot call methods of objects."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"
