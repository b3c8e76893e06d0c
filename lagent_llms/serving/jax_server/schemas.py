"""Request bodies of /instruct and /chat."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ...errors import InvalidArgument
from ..request_bodies import at_most

__all__ = ["ChatRequest", "InstructRequest", "validated"]

#: Most pairs of a history.
_MAX_PAIRS = 5_000

_T = TypeVar("_T", bound="_PromptRequest")


class _PromptRequest(BaseModel):
    """Fields of both routes."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt: str = Field(min_length=1)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    greedy: bool | None = False


class InstructRequest(_PromptRequest):
    """The body of POST /instruct."""

    system: str | None = None


class ChatRequest(_PromptRequest):
    """The body of POST /chat; `history` holds [prompt, answer] pairs."""

    history: Annotated[
        list[Annotated[list[str], Field(min_length=2, max_length=2)]] | None,
        BeforeValidator(at_most(_MAX_PAIRS, "pairs")),
    ] = None


def validated(kind: type[_T], **fields: Any) -> _T:
    """Make a request of class `kind` from Python values.

    Raises:
        InvalidArgument: A value has the wrong type or is out of range.
    """
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidArgument(
            f"{field}={str(first['input'])[:80]!r}: {first['msg']}", argument=field
        ) from None
