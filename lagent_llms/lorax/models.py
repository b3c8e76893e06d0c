"""The base of all types here: msgspec structs that can be used as the pydantic models of lorax-client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from .error_types import ValidationError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Model"]


class Model(msgspec.Struct):
    """Fields by name, with the methods that code written for pydantic models calls."""

    @classmethod
    def model_validate(cls, found: object) -> Self:
        """One made of a dict, as a server would send it.

        Raises:
            ValidationError: It is not what is expected.
        """
        try:
            return msgspec.convert(found, cls)
        except msgspec.ValidationError as error:
            raise ValidationError(f"{cls.__name__}: {error}") from error

    parse_obj = model_validate

    @classmethod
    def model_validate_json(cls, data: str | bytes) -> Self:
        """`model_validate` of JSON."""
        try:
            return cls.model_validate(msgspec.json.decode(data))
        except msgspec.DecodeError as error:
            raise ValidationError(f"{cls.__name__}: {error}") from error

    parse_raw = model_validate_json

    def model_dump(
        self, *, by_alias: bool = False, exclude_none: bool = False, mode: str = "python", **_: Any
    ) -> dict[str, Any]:
        """All fields as a dict, down to the leaves.

        Args:
            by_alias: Taken as pydantic's; names here are those of the wire already.
            exclude_none: Leave out fields that are None.
            mode: 'python' keeps enumerations, 'json' gives their values.
        """
        plain = msgspec.to_builtins(self) if mode == "json" else _plain(self)
        return _without_none(plain) if exclude_none else plain  # type: ignore[no-any-return]

    dict = model_dump

    def model_dump_json(self, **options: Any) -> str:
        """`model_dump` as JSON."""
        return msgspec.json.encode(self.model_dump(mode="json", **options)).decode()

    json = model_dump_json

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Another one with some fields changed (and checked)."""
        return msgspec.structs.replace(self, **(update or {}))

    def _convert(self, **types: Any) -> None:
        """Make fields that came as dicts (``Response(**payload)``) what they should be."""
        for name, type_ in types.items():
            value = getattr(self, name)
            if isinstance(value, (Mapping, list, str)):
                try:
                    setattr(self, name, msgspec.convert(value, type_, from_attributes=False))
                except msgspec.ValidationError as error:
                    raise ValidationError(f"{type(self).__name__}.{name}: {error}", argument=name) from error


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
