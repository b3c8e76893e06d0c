"""Read the JSON files of a checkpoint; every value is checked for its type and range."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from ..errors import ModelLoadError

__all__ = ["REQUIRED", "Settings", "read_json"]

T = TypeVar("T")

#: Default of a key that must be there.
REQUIRED: Final[Any] = object()

_MAX_INT = 2**31 - 1


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelLoadError: The file cannot be read or does not hold a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise ModelLoadError(f"{path}: expected a JSON object, found a {type(data).__name__}")
    return data


class Settings:
    """A JSON object whose values are read with the type that they must have; null is an absent key.

    Args:
        data: The object.
        where: Name of the file or key that holds it, for errors.
    """

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._data, self._where = data, where

    def get(self, key: str) -> Any:
        """Return the value of `key` as it is, None if it is absent."""
        return self._data.get(key)

    def fail(self, key: str, allowed: str) -> NoReturn:
        """Raise the error for the value of `key`.

        Raises:
            ModelLoadError: Always.
        """
        shown = repr(self._data.get(key))
        shown = shown if len(shown) <= 100 else f"{shown[:99]}…"
        raise ModelLoadError(f"{self._where}: {key}={shown} is not supported; allowed is {allowed}")

    def integer(self, key: str, default: T = REQUIRED, least: int = 1, most: int = _MAX_INT) -> int | T:
        """Return an integer from `least` to `most`.

        Raises:
            ModelLoadError: The value is none, or the key is required and absent.
        """
        value = self._value(key, default)
        if value is default:
            return default
        if not _is_integer(value) or not least <= value <= most:
            self.fail(key, f"an integer from {least} to {most}")
        return int(value)

    def number(self, key: str, default: T = REQUIRED, *, positive: bool = True) -> float | T:
        """Return a finite number, above 0 if it must be positive.

        Raises:
            ModelLoadError: The value is none, or the key is required and absent.
        """
        value = self._value(key, default)
        if value is default:
            return default
        if not _is_number(value) or (positive and value <= 0):
            self.fail(key, "a number above 0" if positive else "a finite number")
        return float(value)

    def flag(self, key: str, default: bool = False) -> bool:
        """Return true or false.

        Raises:
            ModelLoadError: The value is neither.
        """
        value = self._value(key, default)
        if not isinstance(value, bool):
            self.fail(key, "true or false")
        return value

    def text(self, key: str, default: T) -> str | T:
        """Return a string.

        Raises:
            ModelLoadError: The value is none.
        """
        value = self._value(key, default)
        if value is not default and not isinstance(value, str):
            self.fail(key, "a string")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """Return the strings of a list, None if the key is absent.

        Raises:
            ModelLoadError: The value is no list of strings.
        """
        value = self._value(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(key, "a list of strings")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Return the numbers above 0 of a list, None if the key is absent.

        Raises:
            ModelLoadError: The value is no list of numbers above 0.
        """
        value = self._value(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(_is_number(item) and item > 0 for item in value):
            self.fail(key, "a list of numbers above 0")
        return tuple(map(float, value))

    def integers(self, key: str) -> tuple[int, ...] | None:
        """Return the integers of 0 or more of a list, None if the key is absent.

        Raises:
            ModelLoadError: The value is no list of integers of 0 or more.
        """
        value = self._value(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(_is_integer(item) and item >= 0 for item in value):
            self.fail(key, "a list of integers of 0 or more")
        return tuple(map(int, value))

    def table(self, key: str) -> Settings:
        """Return a JSON object, empty if the key is absent.

        Raises:
            ModelLoadError: The value is no JSON object.
        """
        value = self._value(key, {})
        if not isinstance(value, dict):
            self.fail(key, "a JSON object")
        return Settings(value, f"{self._where}: {key}")

    def token_ids(self, key: str) -> tuple[int, ...]:
        """Return the token ids of a list or a single one; () if the key is absent.

        Raises:
            ModelLoadError: An id is no integer of 0 or more.
        """
        value = self._value(key, [])
        ids = value if isinstance(value, list) else [value]
        if not all(_is_integer(item) and 0 <= item <= _MAX_INT for item in ids):
            self.fail(key, "a token id of 0 or more, or a list of them")
        return tuple(map(int, ids))

    def items(self) -> Iterable[tuple[str, Any]]:
        """Return all keys with their values as they are."""
        return self._data.items()

    def _value(self, key: str, default: Any) -> Any:
        value = self._data.get(key)
        if value is None and default is REQUIRED:
            raise ModelLoadError(f"{self._where}: {key} is missing")
        return default if value is None else value


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)
