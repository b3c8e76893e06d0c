"""Typed access to a mapping of a family file; errors name the location and the nearest valid key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ..errors import TemplateError, nearest

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """Reader of one mapping in a family file; every method raises TemplateError for a wrong type.

    Args:
        raw: Value in the file.
        where: Location of the mapping, for errors ('llama-2.yaml: roles.user').
        allowed: Allowed keys.

    Raises:
        TemplateError: `raw` is not a mapping, or has an unknown key.
    """

    def __init__(self, raw: object, where: str, allowed: Iterable[str]) -> None:
        if not isinstance(raw, Mapping):
            raise TemplateError(f"{where}: expected a mapping of keys, got {type(raw).__name__}")
        self.where = where
        self._raw: Mapping[str, Any] = raw
        names = tuple(allowed)
        for key in raw:
            if key not in names:
                raise TemplateError(
                    f"{where}: unknown key {key!r}{nearest(str(key), names)} (allowed: {', '.join(names)})"
                )

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def location(self, key: str) -> str:
        """Location of `key`, for errors."""
        return f"{self.where}.{key}"

    def raw(self, key: str, default: object = None) -> Any:
        """Value of `key`, of any type."""
        return self._raw.get(key, default)

    def text(self, key: str, default: str = "") -> str:
        """Value of `key`, a string."""
        return self._typed(key, default, str, "a string")

    def optional_text(self, key: str) -> str | None:
        """Value of `key`, a string or null."""
        return None if self._raw.get(key) is None else self.text(key)

    def flag(self, key: str, default: bool = False) -> bool:
        """Value of `key`, true or false."""
        return self._typed(key, default, bool, "true or false")

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """Value of `key`, one of `allowed`."""
        value = self._raw.get(key, default)
        if value not in allowed:
            raise TemplateError(
                f"{self.location(key)}: unknown value {value!r}{nearest(str(value), allowed)} "
                f"(allowed: {', '.join(allowed)})"
            )
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Value of `key`, a string or a list of strings."""
        value = self._raw.get(key)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
            raise TemplateError(
                f"{self.location(key)}: expected a string or a list of strings, got {value!r}"
            )
        return tuple(items)

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Value of `key`, a mapping with strings as keys."""
        value: Mapping[str, Any] = self._typed(key, {}, Mapping, "a mapping")  # type: ignore[type-abstract]
        for name in value:
            if not isinstance(name, str):
                raise TemplateError(f"{self.location(key)}: the key {name!r} is not a string")
        return value

    def items(self, key: str) -> tuple[Any, ...]:
        """Value of `key`, a list."""
        return tuple(self._typed(key, [], (list, tuple), "a list"))  # type: ignore[arg-type]

    def _typed(self, key: str, default: T, kind: type[T], expected: str) -> T:
        value = self._raw.get(key, default)
        if not isinstance(value, kind):
            raise TemplateError(f"{self.location(key)}: expected {expected}, got {value!r}")
        return value
