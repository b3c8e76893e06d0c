"""`BaseModel`: base of all types of the client, a msgspec struct with the methods of pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..untrusted import DECODE_ERRORS
from .error_types import ValidationError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseModel"]


class BaseModel(msgspec.Struct):
    """A msgspec struct with the methods of pydantic's ``BaseModel`` that code for lorax-client uses."""

    @classmethod
    def model_validate(cls, obj: object) -> Self:
        """Make an instance from a dict, as in a server's JSON.

        Raises:
            ValidationError: A field is missing or has the wrong type.
        """
        try:
            return msgspec.convert(obj, cls)
        except msgspec.ValidationError as error:
            raise ValidationError(f"{cls.__name__}: {error}") from error

    parse_obj = model_validate

    @classmethod
    def model_validate_json(cls, data: str | bytes) -> Self:
        """Make an instance from JSON; see `model_validate`."""
        try:
            return cls.model_validate(msgspec.json.decode(data))
        except DECODE_ERRORS as error:
            raise ValidationError(f"{cls.__name__}: {error}") from error

    parse_raw = model_validate_json

    def model_dump(
        self, *, by_alias: bool = False, exclude_none: bool = False, mode: str = "python", **_: Any
    ) -> dict[str, Any]:
        """Convert to a dict, recursively.

        Args:
            by_alias: Accepted for compatibility; no effect, because fields have the protocol's names.
            exclude_none: Leave out fields that are None.
            mode: 'python' keeps enum members, 'json' converts them to their values.
        """
        plain = msgspec.to_builtins(self) if mode == "json" else _plain(self)
        return _without_none(plain) if exclude_none else plain  # type: ignore[no-any-return]

    dict = model_dump

    def model_dump_json(self, **options: Any) -> str:
        """Convert to JSON; see `model_dump`."""
        return msgspec.json.encode(self.model_dump(mode="json", **options)).decode()

    json = model_dump_json

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Copy with some fields changed; the copy is validated."""
        return msgspec.structs.replace(self, **(update or {}))

    def _convert(self, **types: Any) -> None:
        """Convert fields given as plain JSON values (``Response(**payload)``) to their types."""
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
