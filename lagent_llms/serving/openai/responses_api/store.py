"""Responses that clients continue, read and delete by their ids: bounded, in memory, with an expiry."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from ....errors import NotFound

__all__ = ["MAX_BYTES", "MAX_RESPONSES", "MAX_SECONDS", "ResponseStore"]

#: Most responses kept, most bytes of all of them, and the seconds that one is kept.
MAX_RESPONSES, MAX_BYTES, MAX_SECONDS = 10_000, 64 << 20, 3600.0


class _Stored(NamedTuple):
    """A response and its dialog, as JSON: so their size is known, and is all the memory that they take."""

    response: bytes
    messages: bytes
    owner: str
    expires: float

    @property
    def size(self) -> int:
        return len(self.response) + len(self.messages)


class ResponseStore:
    """Keeps responses and their dialogs; the oldest ones go first. A client sees those of its own key only.

    Args:
        max_responses: Most responses.
        max_bytes: Most bytes of JSON of all responses and dialogs; a larger one alone is not kept.
        seconds: How long one is kept.
        clock: Returns the time, in seconds.
    """

    def __init__(
        self,
        max_responses: int = MAX_RESPONSES,
        max_bytes: int = MAX_BYTES,
        seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._most_bytes, self._seconds, self._clock = max_responses, max_bytes, seconds, clock
        self._stored: OrderedDict[str, _Stored] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        self._make_room()
        return len(self._stored)

    def keep(self, owner: str, response: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        """Keep a response.

        Args:
            owner: The name of the client's key.
            response: The response object.
            messages: The dialog up to and with the response, without instructions.
        """
        expires = self._clock() + self._seconds
        entry = _Stored(_encoded(response), _encoded(messages), owner, expires)
        if entry.size <= self._most_bytes:
            self._stored[response["id"]] = entry
            self._bytes += entry.size
        self._make_room()

    def response(self, owner: str, identifier: str) -> bytes:
        """A response as JSON.

        Raises:
            NotFound: There is none with this id.
        """
        return self._found(owner, identifier).response

    def messages(self, owner: str, identifier: str) -> list[dict[str, Any]]:
        """The dialog of a response.

        Raises:
            NotFound: There is no response with this id.
        """
        found = self._found(owner, identifier, "previous_response_not_found")
        messages: list[dict[str, Any]] = json.loads(found.messages)
        return messages

    def delete(self, owner: str, identifier: str) -> None:
        """Delete a response.

        Raises:
            NotFound: There is none with this id.
        """
        self._bytes -= self._found(owner, identifier).size
        del self._stored[identifier]

    def _found(self, owner: str, identifier: str, code: str = "response_not_found") -> _Stored:
        self._make_room()
        entry = self._stored.get(identifier)
        if entry is None or entry.owner != owner:
            raise NotFound(
                f"there is no response {identifier[:200]!r}; responses are kept for {self._seconds:g} s, "
                "unless store is false",
                code=code,
            )
        return entry

    def _make_room(self) -> None:
        now = self._clock()
        while self._stored:
            oldest = next(iter(self._stored.values()))
            within = len(self._stored) <= self._most and self._bytes <= self._most_bytes
            if within and oldest.expires > now:
                return
            self._bytes -= self._stored.popitem(last=False)[1].size


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
