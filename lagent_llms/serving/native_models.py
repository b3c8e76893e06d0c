"""What /instruct and /chat take."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ChatRequest", "InstructRequest"]


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
