"""`lagent_llms.templates` under the name of lagent's module (ADR 67)."""

from typing import TYPE_CHECKING, Any

from . import templates
from .templates import __all__ as __all__

if TYPE_CHECKING:
    from .templates import *  # noqa: F403


def __getattr__(name: str) -> Any:
    return getattr(templates, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
