"""`lagent_llms.templates` under the name of lagent's module."""

from typing import Any

from . import templates
from .templates import *  # noqa: F403
from .templates import __all__ as __all__


def __getattr__(name: str) -> Any:
    return getattr(templates, name)
