"""What /instruct and /chat take."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InvalidArgument

__all__ = ["ChatRequest", "InstructRequest", "checked"]

_T = TypeVar("_T", bound="_Request")


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    greedy: bool | None = False


class InstructRequest(_Request):
    """POST /instruct."""

    system: str | None = None


class ChatRequest(_Request):
    """POST /chat; `history` holds (prompt, answer) pairs."""

    history: list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None


def checked(kind: type[_T], **values: Any) -> _T:
    """A request made in Python.

    Raises:
        InvalidArgument: A value is of the wrong type, or out of range.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidArgument(
            f"{place}={str(first['input'])[:80]!r}: {first['msg']}", argument=place
        ) from None
