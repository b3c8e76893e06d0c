"""`Timeout`: the longest waits of one call, and `check_timeout`, the check of the parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .errors import InvalidArgument, nearest
from .validators import number, optional

__all__ = ["Timeout", "check_timeout"]


@dataclass(frozen=True)
class Timeout:
    """The longest waits of one call, in seconds; None sets no limit.

    A plain number given as ``timeout`` is both `first_token` and `idle`: the longest wait for the next piece
    of the answer (seed 003: 30 s). A keep-alive comment is no piece of the answer; a delta without text (of a
    tool call, of a role) renews the wait.

    Attributes:
        connect: For a connection to the server.
        first_token: From the moment the request is written, or an engine in this process admits it, to the
            first piece of the answer (long prompts, reasoning models).
        idle: Between two pieces of the answer.
        total: For the whole answer.
    """

    connect: float | None = 5.0
    first_token: float | None = 30.0
    idle: float | None = 30.0
    total: float | None = None

    def __post_init__(self) -> None:
        check = optional(number("None or a number of seconds above 0", 0, above=True))
        for item in fields(self):
            object.__setattr__(self, item.name, check(f"Timeout.{item.name}", getattr(self, item.name)))


def check_timeout(name: str, value: Any) -> Timeout:
    """A `Timeout`, a mapping of its fields, or seconds for `first_token` and `idle`."""
    if isinstance(value, Timeout):
        return value
    if isinstance(value, Mapping):
        known = [item.name for item in fields(Timeout)]
        for key in value:
            if key not in known:
                raise InvalidArgument(
                    f"{name}: unknown key {key!r}{nearest(str(key), known)}; allowed are {', '.join(known)}",
                    argument=name,
                )
        try:
            return Timeout(**value)
        except InvalidArgument as error:
            raise InvalidArgument(str(error), argument=name) from None
    allowed = "a number of seconds above 0, a Timeout, or a mapping such as {'first_token': 300}"
    seconds = number(allowed, 0, above=True)(name, value)
    return Timeout(first_token=seconds, idle=seconds)
