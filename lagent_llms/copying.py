"""Copies: `pickle` and `copy` make an object anew from the arguments of its constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CopiedByArguments", "make_copy"]

T = TypeVar("T")


class CopiedByArguments:
    """Base of objects that can be pickled and copied: the copy has the same configuration and nothing else.

    Connections, the histories of sessions and what was learned from the server are not copied. Secrets that
    were given as arguments are part of the copy; those of the environment are read again.
    """

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments."""
        self = super().__new__(cls)
        self._arguments = args, kwargs
        return self

    @property
    def not_copied(self) -> str:
        """Why the object cannot be copied, and what to do; '' if it can."""
        classes = type(self._arguments[1].get("session")).__mro__
        if not any(base.__module__.partition(".")[0] == "aiohttp" for base in classes):
            return ""
        return "its session= serves only the event loop it was made in; make a client in each process"

    def __reduce__(self) -> tuple[Any, ...]:
        """Describe how to make the copy.

        Raises:
            TypeError: The object cannot be copied; the type of error that `pickle` documents for this.
        """
        if reason := self.not_copied:
            raise TypeError(f"cannot copy or pickle {type(self).__name__}: {reason}")
        return make_copy, (type(self), *self._arguments)


def make_copy(cls: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Return ``cls(*args, **kwargs)``: what pickles of copied objects call."""
    return cls(*args, **kwargs)
