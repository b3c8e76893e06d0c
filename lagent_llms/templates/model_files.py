"""Read the chat template, special tokens and end tokens of a model's files, of transformers 4 and 5."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import TemplateError
from .jinja import TOKENS, JinjaTemplate
from .limits import TemplateLimits
from .tokenizer_classes import default_tokens

__all__ = ["has_chat_template", "load_model_template", "load_with_options"]


def load_model_template(
    path: Path,
    *,
    chat_template: str | None = None,
    special_tokens: Mapping[str, str | None] | None = None,
    limits: object = None,
) -> JinjaTemplate:
    """Load the chat template of a model.

    Args:
        path: Model directory, its tokenizer_config.json, or a Jinja file (special tokens then come from the
            files in the same directory).
        chat_template: The name of one of the model's templates, or the source of another; None is the
            template 'default', and 'tool_use' for calls with tools if there is one.
        special_tokens: Special tokens that replace the model's own, by name; None removes one.
        limits: See `JinjaTemplate`.

    Raises:
        TemplateError: The model has no (such) chat template, or a file cannot be read.
        MissingDependency: jinja2 is not installed.
    """
    folder, config = _config_of(path)
    sources = (
        {"default": _read_text(path)} if path.suffix == ".jinja" else _find_sources(folder, config, path)
    )
    if chat_template is not None:
        sources = {"default": _chosen(chat_template, sources, path)}
    if not sources:
        raise TemplateError(f"{path}: the model has no chat template; name a family instead")
    tokens = {
        name: text
        for name, text in {**_special_tokens(folder, config, sources), **(special_tokens or {})}.items()
        if text is not None
    }
    return JinjaTemplate(
        sources,
        where=str(path),
        tokens=tokens,
        bos_added=bool(config.get("add_bos_token", False)),
        stop_words=_stop_words(folder, config, tokens.get("eos_token", "")),
        limits=TemplateLimits.of(limits),
    )


def load_with_options(spec: Mapping[str, Any]) -> JinjaTemplate:
    """Load the template that a dict with 'path' describes.

    Raises:
        TemplateError: A key or value is not allowed, or the template cannot be loaded.
    """
    if unknown := sorted(map(str, set(spec) - {"path", "chat_template", "special_tokens", "limits"})):
        raise TemplateError(
            f"meta_template: {unknown[0]!r} is not allowed beside 'path'; allowed are 'chat_template', "
            "'special_tokens' and 'limits'"
        )
    path, chosen, tokens = (spec.get(key) for key in ("path", "chat_template", "special_tokens"))
    if not isinstance(path, (str, os.PathLike)):
        raise TemplateError(f"meta_template: path={path!r}; allowed is a path or the source of a template")
    if chosen is not None and not isinstance(chosen, str):
        raise TemplateError(f"meta_template: chat_template={chosen!r}; allowed is a name or a source")
    tokens = {} if tokens is None else tokens
    limits = TemplateLimits.of(spec.get("limits"))
    if not isinstance(tokens, Mapping) or not all(
        isinstance(name, str) and (text is None or isinstance(text, str)) for name, text in tokens.items()
    ):
        raise TemplateError(f"meta_template: special_tokens={tokens!r}; allowed is a dict of names and texts")
    if isinstance(path, str) and _is_source(path):
        if chosen is not None:
            raise TemplateError("meta_template: 'path' holds a template, so 'chat_template' is not allowed")
        tokens = {name: text for name, text in tokens.items() if text is not None}
        return JinjaTemplate(path, tokens=tokens, limits=limits)
    return load_model_template(Path(path), chat_template=chosen, special_tokens=tokens, limits=limits)


def has_chat_template(folder: Path) -> bool:
    """Return whether a model directory has a chat template.

    Raises:
        TemplateError: A file cannot be read.
    """
    return bool(_find_sources(*_config_of(folder), folder))


def _is_source(text: str) -> bool:
    return "{%" in text or "{{" in text


def _chosen(chat_template: str, sources: Mapping[str, str], path: Path) -> str:
    if chat_template in sources:
        return sources[chat_template]
    if _is_source(chat_template):
        return chat_template
    raise TemplateError(
        f"chat_template={chat_template!r} is no source of a template, and {path} has "
        + (f"the templates {', '.join(sources)}" if sources else "none with a name")
    )


def _config_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """Directory of the model, and its tokenizer_config.json ({} if there is none)."""
    folder = path if path.is_dir() else path.parent
    file = path if path.suffix == ".json" else folder / "tokenizer_config.json"
    return folder, _read_json(file, required=path.suffix == ".json")


def _find_sources(folder: Path, config: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Templates of a model by name; files have priority over the configuration, as in transformers."""
    files = {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (file := folder / "chat_template.jinja").is_file():
        files = {"default": file, **files}
    if files:
        return {name: _read_text(file) for name, file in files.items()}
    given = config.get("chat_template")
    if given is None:  # a processor's template
        given = _read_json(folder / "chat_template.json").get("chat_template")
    if isinstance(given, str) and given:
        return {"default": given}
    try:
        named = (
            dict(given or {}) if not isinstance(given, list) else {i["name"]: i["template"] for i in given}
        )
        if all(isinstance(text, str) for item in named.items() for text in item):
            return named
    except (KeyError, TypeError, ValueError):
        pass
    raise TemplateError(
        f"{path}: chat_template is {given!r:.80}; allowed is the source of a template, or several by name"
    )


def _special_tokens(
    folder: Path, config: Mapping[str, Any], sources: Mapping[str, str]
) -> dict[str, str | None]:
    """Special tokens by name.

    Without `added_tokens_decoder`, special_tokens_map.json has priority over tokenizer_config.json. Standard
    tokens that neither names are those of the tokenizer class.
    """
    further = {**_own_tokens(config), **_table(config, "extra_special_tokens")}
    further = further or _table(config, "model_specific_special_tokens")  # as transformers 5 saves them
    if "added_tokens_decoder" not in config:
        mapped = _read_json(folder / "special_tokens_map.json")
        config = {**config, **mapped}
        further = {**_own_tokens(mapped), **further, **_table(mapped, "extra_special_tokens")}
    named = {name: config[name] for name in TOKENS if name in config}
    found = {
        name: text for name, value in {**named, **further}.items() if (text := _token(value)) is not None
    }
    return {**_class_tokens(folder, config, sources), **dict.fromkeys(named), **found}


def _own_tokens(values: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens that a model has beside the standard ones (image_token)."""
    return {name: value for name, value in values.items() if name.endswith("_token") and name not in TOKENS}


def _class_tokens(
    folder: Path, config: Mapping[str, Any], sources: Mapping[str, str]
) -> Mapping[str, str | None]:
    """Standard tokens of the model's tokenizer class, and of the padding in tokenizer.json."""
    if set(TOKENS) <= config.keys():
        return {}
    file = folder / "tokenizer.json"
    padding = {}
    if "pad_token" not in config and any("pad_token" in source for source in sources.values()):
        padding = _table(_read_json(file), "padding")
    model = _read_json(folder / "config.json")
    declared = config.get("tokenizer_class") or model.get("tokenizer_class")
    byte_level = partial(_holds, file, '"ByteLevel"')
    defaults = default_tokens(declared, model.get("model_type"), byte_level)
    return {"pad_token": _token(padding.get("pad_token")), **defaults}


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and text in _read_text(path)


def _stop_words(folder: Path, config: Mapping[str, Any], eos: str) -> tuple[str, ...]:
    """The EOS token, and the end tokens that generation_config.json or else config.json lists by id."""
    ids = None
    for name in ("generation_config.json", "config.json"):
        if ids is None:
            ids = _read_json(folder / name).get("eos_token_id")
    numbers = [str(number) for number in (ids if isinstance(ids, list) else [ids]) if isinstance(number, int)]
    known = {number: _token(token) for number, token in _table(config, "added_tokens_decoder").items()}
    if not set(numbers) <= set(known):
        known |= {str(number): text for text, number in _read_json(folder / "added_tokens.json").items()}
    if not set(numbers) <= set(known):
        added = _read_json(folder / "tokenizer.json").get("added_tokens")
        known |= {
            str(token.get("id")): _token(token)
            for token in (added if isinstance(added, list) else ())
            if isinstance(token, dict)
        }
    return tuple(dict.fromkeys(filter(None, (eos, *(known.get(number) for number in numbers)))))


def _table(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = config.get(key)
    return value if isinstance(value, dict) else {}


def _token(value: object) -> str | None:
    """Text of a token, which is a string or an object with its content; None for other values."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read: {error}") from error


def _read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """Read a JSON object; {} if there is no such file and it is not required."""
    if not required and not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"{path}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise TemplateError(f"{path}: expected a JSON object")
    return value
