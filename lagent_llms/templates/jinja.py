"""Render a model's own Jinja chat template in jinja2's sandbox, exactly as transformers does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependency, TemplateError
from ..schema import Message
from .base import ChatTemplate, marks_in, text_of
from .placeholders import local_time

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["JinjaTemplate", "load_model_template"]

#: Keys of a message's reasoning; most templates read the first, gpt-oss the second.
REASONING = ("reasoning_content", "thinking", "reasoning")
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
                f"{where}: there is no template named 'default' (templates: {', '.join(sources)})"
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
        """See `ChatTemplate.render`. Every option is a variable of the template."""
        now = options.pop("now", local_time)
        chat = [_plain_message(message, index, self.name) for index, message in enumerate(messages)]
        if continue_final_message:
            if not isinstance(chat[-1].get("content"), str):
                raise TemplateError(f"{self.name}: the last message has no content to continue")
            chat[-1]["content"] += CONTINUE
        template = self._templates["tool_use" if tools and "tool_use" in self._templates else "default"]
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
    plain: dict[str, Any] = {key: value for key, value in _plain(message).items() if value is not None}
    if isinstance(calls := plain.get("tool_calls"), list):
        for call in calls:
            _decode_arguments(call)
    if plain.get("content") is not None or not plain.get("tool_calls"):
        plain["content"] = text_of(message, index, where)
    reasoning = next((plain[key] for key in REASONING if plain.get(key) is not None), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _decode_arguments(call: object) -> None:
    """Decode the arguments of a tool call if they are a JSON object as a string: templates encode them."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
        from ..untrusted import UNREADABLE, read_json  # here: slow to import, and rarely needed

        with contextlib.suppress(*UNREADABLE):
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


def load_model_template(path: Path) -> JinjaTemplate:
    """Load the chat template of a model.

    Args:
        path: Model directory, its tokenizer_config.json, or a Jinja file (special tokens then come from the
            tokenizer_config.json in the same directory).

    Raises:
        TemplateError: The model has no chat template, or a file cannot be read.
        MissingDependency: jinja2 is not installed.
    """
    folder = path if path.is_dir() else path.parent
    config_file = path if path.suffix == ".json" else folder / "tokenizer_config.json"
    config = _read_json(config_file) if config_file.is_file() or path.suffix == ".json" else {}
    source = _read_text(path) if path.suffix == ".jinja" else _find_source(folder, config)
    if not source:
        raise TemplateError(f"{path}: the model has no chat template; name a family instead")
    tokens = {name: text for name in TOKENS if (text := _token(config.get(name)))}
    return JinjaTemplate(
        source,
        where=str(path),
        tokens=tokens,
        bos_added=bool(config.get("add_bos_token", False)),
        stop_words=_stop_words(folder, config, tokens.get("eos_token", "")),
    )


def _find_source(folder: Path, config: Mapping[str, Any]) -> str | dict[str, str]:
    """Template source(s) of a model directory; chat_template.jinja has priority over the configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        more = (folder / "additional_chat_templates").glob("*.jinja")
        return {"default": _read_text(file), **{other.stem: _read_text(other) for other in sorted(more)}}
    given = config.get("chat_template")
    if given is None and (folder / "chat_template.json").is_file():
        given = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(given, list):
        return {item["name"]: item["template"] for item in given}
    return given if isinstance(given, str) else ""


def _stop_words(folder: Path, config: Mapping[str, Any], eos: str) -> tuple[str, ...]:
    """The EOS token, and the end tokens that generation_config.json lists by id."""
    file = folder / "generation_config.json"
    ids = _read_json(file).get("eos_token_id") if file.is_file() else None
    known = config.get("added_tokens_decoder") or {}
    listed = [_token(known.get(str(number))) for number in (ids if isinstance(ids, list) else [ids])]
    return tuple(dict.fromkeys(filter(None, (eos, *listed))))


def _token(value: object) -> str:
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise TemplateError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise TemplateError(f"{path}: expected a JSON object")
    return value
