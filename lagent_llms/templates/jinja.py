"""A model's own Jinja chat template, rendered in jinja2's sandbox exactly as transformers does."""

from __future__ import annotations

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

#: Names that a message's reasoning is passed under; templates read the first (gpt-oss the second).
REASONING = ("reasoning_content", "thinking", "reasoning")
#: The special tokens that transformers hands to a template, when the tokenizer has them.
TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
#: Marks the end of a message that is to be continued; a space follows to see whether the template strips.
CONTINUE = "CONTINUE_FINAL_MESSAGE_TAG "


@lru_cache(maxsize=64)
def _compiled(source: str, where: str) -> Template:
    import jinja2

    from .sandbox import environment

    try:
        return environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(f"{where}, line {error.lineno}: no valid Jinja: {error.message}") from error


class JinjaTemplate(ChatTemplate):
    """A chat template in Jinja.

    Args:
        source: The template, or several by name ('default', 'tool_use').
        where: Where it came from, as errors name it.
        tokens: The special tokens that the template may use (bos_token, eos_token …).
        bos_added: Whether the tokenizer adds a BOS to any text.
        stop_words: Where an answer ends.
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
                f"{where}: there is no template named 'default' (there are: {', '.join(sources)})"
            )
        _require_jinja()
        self.name = where
        self._templates = {name: _compiled(text, f"{where} ({name})") for name, text in sources.items()}
        self._sources = sources
        self._tokens = dict(tokens or {})
        self.bos = self._tokens.get("bos_token", "")
        written = "bos_token" in sources["default"] or (self.bos and self.bos in sources["default"])
        self.bos_by = "text" if self.bos and written else "server" if self.bos and bos_added else "none"
        self.stop_words = tuple(stop_words)
        self.special_tokens = tuple(
            dict.fromkeys((*self._tokens.values(), *self.stop_words, *marks_in(list(sources.values()))))
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """Any role: only the template knows which it refuses."""
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
        """The prompt of a dialog; see `ChatTemplate.render`. Every option is a variable of the template."""
        now = options.pop("now", local_time)
        chat = [_message(message, index, self.name) for index, message in enumerate(messages)]
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
        return self._open_end(text, chat) if continue_final_message else text

    def _open_end(self, text: str, chat: Sequence[Mapping[str, Any]]) -> str:
        """`text` up to the content of its last message."""
        said = chat[-1]["content"].removesuffix(CONTINUE).strip()
        at = text.rfind(CONTINUE.strip())
        if at < 0 or said not in text:
            raise TemplateError(
                f"{self.name}: the template changes the last message, so it cannot be continued"
            )
        return text[:at] if text[at : at + len(CONTINUE)] == CONTINUE else text[:at].rstrip()


def _require_jinja() -> None:
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingDependency.of("jinja2", "jinja") from error


def _message(message: Message, index: int, where: str) -> dict[str, Any]:
    """A message as a template sees it: plain data, its text parts joined, its reasoning under every name."""
    plain: dict[str, Any] = _plain(message)
    if plain.get("content") is not None or not plain.get("tool_calls"):
        plain["content"] = text_of(message, index, where)
    reasoning = next((plain[key] for key in REASONING if plain.get(key) is not None), None)
    return plain if reasoning is None else {"thinking": reasoning, **plain, "reasoning_content": reasoning}


def _plain(value: Any) -> Any:
    """`value` in plain JSON types: a template must not get hold of an object with methods."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def load_model_template(path: Path) -> JinjaTemplate:
    """The chat template of a model.

    Args:
        path: A model directory, its tokenizer_config.json, or a Jinja file (special tokens are taken from a
            tokenizer_config.json beside it).

    Raises:
        TemplateError: There is no chat template, or a file cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    config_file = path if path.suffix == ".json" else folder / "tokenizer_config.json"
    config = _json(config_file) if config_file.is_file() or path.suffix == ".json" else {}
    source = _text(path) if path.suffix == ".jinja" else _source(folder, config)
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


def _source(folder: Path, config: Mapping[str, Any]) -> str | dict[str, str]:
    """The template(s): chat_template.jinja and its companions come before the tokenizer's configuration."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        more = (folder / "additional_chat_templates").glob("*.jinja")
        return {"default": _text(file), **{other.stem: _text(other) for other in sorted(more)}}
    given = config.get("chat_template")
    if given is None and (folder / "chat_template.json").is_file():
        given = _json(folder / "chat_template.json").get("chat_template")
    if isinstance(given, list):
        return {item["name"]: item["template"] for item in given}
    return given if isinstance(given, str) else ""


def _stop_words(folder: Path, config: Mapping[str, Any], eos: str) -> tuple[str, ...]:
    """The EOS token, and the further ends of an answer that generation_config.json lists by id."""
    file = folder / "generation_config.json"
    ids = _json(file).get("eos_token_id") if file.is_file() else None
    known = config.get("added_tokens_decoder") or {}
    listed = [_token(known.get(str(number))) for number in (ids if isinstance(ids, list) else [ids])]
    return tuple(dict.fromkeys(filter(None, (eos, *listed))))


def _token(value: object) -> str:
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except ValueError as error:
        raise TemplateError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise TemplateError(f"{path}: expected a JSON object")
    return value
