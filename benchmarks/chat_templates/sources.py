"""Find chat templates in a folder: Jinja files, the files of models, and JSON with chat templates in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Source", "find_sources", "write"]

CONFIG, JINJA = "tokenizer_config.json", "chat_template.jinja"
#: A directory that has one of these files is that of a model.
MODEL_FILES = (CONFIG, JINJA, "chat_template.json")
FURTHER_FILES = ("special_tokens_map.json", "added_tokens.json", "tokenizer.json", "config.json")
MORE_TEMPLATES = "additional_chat_templates"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


@dataclass(frozen=True)
class Source:
    """A model's templates.

    Attributes:
        name: Where they were found.
        files: The model's files by name: a path, or the JSON value of the file.
        tokens: Special tokens to give by argument.
    """

    name: str
    files: Mapping[str, Any]
    tokens: Mapping[str, str] = field(default_factory=dict)


def find_sources(folder: Path) -> Iterator[Source]:
    """Find the templates in and below `folder`."""
    files = [
        path for path in sorted(folder.rglob("*")) if path.suffix in (".jinja", ".json") and path.is_file()
    ]
    models = {path.parent for path in files if path.name in MODEL_FILES}
    for model in sorted(models):
        names = [*MODEL_FILES, *FURTHER_FILES]
        names += [f"{MORE_TEMPLATES}/{path.name}" for path in (model / MORE_TEMPLATES).glob("*.jinja")]
        found = {name: model / name for name in names if (model / name).is_file()}
        yield Source(_name(model, folder), found, {} if CONFIG in found else TOKENS)
    for path in files:
        if models & {path.parent, path.parent.parent if path.parent.name == MORE_TEMPLATES else path.parent}:
            continue
        if path.suffix == ".jinja":
            yield Source(_name(path, folder), {JINJA: path}, TOKENS)
            continue
        for label, config in _configs_in(_json_of(path)):
            bare = {"chat_template": config["chat_template"]}  # a list of models' templates has no tokens
            files_of = {CONFIG: config if "eos_token" in config else bare}
            yield Source(f"{_name(path, folder)} {label}", files_of, {} if "eos_token" in config else TOKENS)


def _json_of(path: Path) -> object:
    """The JSON value of a file, None if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def _name(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path != folder else folder.name


def _configs_in(value: object, label: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects with a chat template in a JSON value, each with its name."""
    if isinstance(value, dict) and value.get("chat_template"):
        if "{" in str(value["chat_template"]):  # else the name of a template
            yield str(value.get("model_name", label)), value
    elif isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _configs_in(item, f"{label}/{key}" if label else str(key))


def write(source: Source, folder: Path) -> None:
    """Write the files of a model."""
    for name, content in source.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_text(json.dumps(content), encoding="utf-8")
