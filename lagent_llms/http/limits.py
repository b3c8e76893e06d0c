"""The limits on what a server may send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..errors import InvalidArgument
from ..validators import integer

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """The most that a server may send; more is a `ServerError` or `StreamInterrupted`.

    Attributes:
        response_bytes: The body of one response, decompressed. Over gRPC also one message.
        event_bytes: One event of a stream.
        error_bytes: The body of an error that is read; the rest is ignored.
        head_bytes: All heads and trailers of a response, and chunk framing between two pieces of its body;
            in asynchronous clients each of their lines.
        headers: Number of headers and trailers, those of interim responses included.
        interim_responses: Responses with a status 1xx before a response.

    Raises:
        InvalidArgument: A limit is no integer of 1 or more.
    """

    response_bytes: int = 1 << 28
    event_bytes: int = 1 << 26
    error_bytes: int = 1 << 20
    head_bytes: int = 1 << 16
    headers: int = 256
    interim_responses: int = 16

    def __post_init__(self) -> None:
        check = integer("an integer of 1 or more", 1)
        for item in fields(self):
            object.__setattr__(self, item.name, check(f"limits.{item.name}", getattr(self, item.name)))

    @classmethod
    def of(cls, given: Limits | Mapping[str, int] | None) -> Limits:
        """Return `given` as limits: None is the defaults, a mapping changes some of them.

        Raises:
            InvalidArgument: A name or a value is not allowed.
        """
        if given is None or isinstance(given, Limits):
            return given or DEFAULT_LIMITS
        known = [item.name for item in fields(cls)]
        if not isinstance(given, Mapping) or not given.keys() <= set(known):
            raise InvalidArgument(
                f"limits={given!r}: allowed is Limits(…) or a dict with some of {', '.join(known)}",
                argument="limits",
            )
        return cls(**given)


DEFAULT_LIMITS = Limits()
