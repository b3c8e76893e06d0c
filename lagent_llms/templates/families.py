"""Load templates: families by name, and every other value that `meta_template=` accepts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import TemplateError, nearest
from .base import ChatTemplate

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["TemplateSpec", "available_templates", "load_template"]

#: Values that `load_template` accepts.
TemplateSpec: TypeAlias = (
    "str | os.PathLike[str] | Sequence[Mapping[str, Any]] | Mapping[str, Any] | ChatTemplate"
)

FOLDER = "meta_templates"


def load_template(spec: TemplateSpec | None) -> ChatTemplate | None:
    """Load a template.

    Args:
        spec: None (no template); the name of a family (`available_templates`); lagent's list of dicts; a dict
            in the schema of a family file; the path of a family file; a model directory, its
            tokenizer_config.json or chat_template.jinja (the model's own Jinja template); or the source of a
            Jinja template (a string that holds '{%' or '{{'). A dict with 'path' (a path or source of these)
            may have 'chat_template' (the name of one of the model's templates, or a source) and
            'special_tokens' ({'bos_token': …}), which precede what the model's files say, and 'limits'
            (`TemplateLimits`).

    Returns:
        The template; None if `spec` is None.

    Raises:
        TemplateError: The template is not valid, or no family has this name.
        MissingDependency: jinja2 is needed and not installed.
    """
    if spec is None or isinstance(spec, ChatTemplate):
        return spec
    if isinstance(spec, Mapping):
        if "path" in spec:
            from .model_files import load_with_options

            return load_with_options(spec)
        return _from_data(spec, str(spec.get("family", "meta_template")))
    if isinstance(spec, str) and ("{%" in spec or "{{" in spec):
        from .jinja import JinjaTemplate

        return JinjaTemplate(spec)
    if isinstance(spec, (str, os.PathLike)):
        return _by_name_or_path(os.fspath(spec))
    if isinstance(spec, Sequence) and not isinstance(spec, (str, bytes, bytearray)):
        from .parsers import lagent_family
        from .render import MetaTemplate

        return MetaTemplate(lagent_family(spec))
    raise TemplateError(
        f"meta_template: expected a name, a path, a list of dicts or a dict, got {type(spec).__name__}"
    )


def available_templates() -> tuple[str, ...]:
    """Names of all families, without aliases, sorted."""
    return tuple(sorted(name[:-5] for name in _file_names() if name.endswith(".yaml")))


def _by_name_or_path(spec: str) -> ChatTemplate:
    if f"{spec}.yaml" in _file_names():
        return _family(spec)
    path = Path(spec)
    if path.is_dir() or path.suffix in (".json", ".jinja"):
        from .model_files import load_model_template

        return load_model_template(path)
    if path.suffix in (".yaml", ".yml"):
        return _read_file(path)
    if spec in _aliases():
        return _family(_aliases()[spec])
    names = (*available_templates(), *_aliases())
    raise TemplateError(
        f"meta_template={spec!r}: no such family{nearest(spec, names)}, and no such file or directory; "
        "available_templates() lists the families"
    )


def _read_file(path: Path) -> ChatTemplate:
    """Load the template in a family file.

    Raises:
        TemplateError: The file cannot be read, is not YAML, or does not describe a valid family.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: cannot be read: {error}") from error
    return _from_data(_parse_yaml(text, str(path)), path.name)


def _from_data(raw: object, where: str) -> ChatTemplate:
    from .render import MetaTemplate
    from .validate import read_family

    return MetaTemplate(read_family(raw, where))


def _parse_yaml(text: str, where: str) -> object:
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise TemplateError(
            f"{where}{line}: no valid YAML: {getattr(error, 'problem', None) or error}"
        ) from error


def _folder() -> Traversable:
    """Folder of the family files: inside an installed package, beside the package in a checkout."""
    from importlib import resources

    installed = resources.files(__package__.rpartition(".")[0]) / FOLDER
    return installed if installed.is_dir() else Path(__file__).parents[2] / FOLDER


@lru_cache(maxsize=1)
def _file_names() -> frozenset[str]:
    return frozenset(entry.name for entry in _folder().iterdir())


@cache
def _family(name: str) -> ChatTemplate:
    file = _folder() / f"{name}.yaml"
    return _from_data(_parse_yaml(file.read_text(encoding="utf-8"), file.name), file.name)


@lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    """Alias to name of the family."""
    return {alias: name for name in available_templates() for alias in _family(name).aliases}
