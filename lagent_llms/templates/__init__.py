"""Meta templates: render the messages of a dialog to a prompt, byte-equal to the model's own template.

`load_template('internlm2')` loads a family of `meta_templates/`; it also accepts lagent's list of dicts, a
family file, a model directory and a Jinja template. docs/meta_templates.md describes the format. Rendering,
validation and YAML are imported when a template is loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import ChatTemplate
from .families import TemplateSpec, available_templates, load_template
from .history import History, Rendered
from .internlm2 import INTERNLM2_META

if TYPE_CHECKING:
    from .drift import DriftReport, check_template
    from .parsers import APITemplateParser, LMTemplateParser

__all__ = [
    "INTERNLM2_META",
    "APITemplateParser",
    "ChatTemplate",
    "DriftReport",
    "History",
    "LMTemplateParser",
    "Rendered",
    "TemplateSpec",
    "available_templates",
    "check_template",
    "load_template",
]

_LAZY = {
    "APITemplateParser": "parsers",
    "DriftReport": "drift",
    "LMTemplateParser": "parsers",
    "check_template": "drift",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)
