"""Find marks in text that arrives in pieces; hold back the beginning of one until it is decided. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["MarkFinder", "finder_of"]


class MarkFinder:
    """Search for any of several marks, none of which contains the beginning of another.

    Args:
        marks: The marks.
    """

    __slots__ = ("_first", "_longest", "_prefixes", "_search")

    def __init__(self, marks: Sequence[str]) -> None:
        self._search = re.compile("|".join(map(re.escape, marks)) or r"(?!)").search
        self._first = re.compile("|".join(sorted({re.escape(mark[0]) for mark in marks})) or r"(?!)")
        self._prefixes = frozenset(mark[:length] for mark in marks for length in range(1, len(mark)))
        self._longest = max(map(len, marks), default=1)

    def find(self, text: str, start: int = 0, *, final: bool = False) -> tuple[int, str]:
        """The place of the first mark, and the mark.

        Args:
            text: The text so far.
            start: Where to begin.
            final: No text follows.

        Returns:
            Without a mark: the end of the text that cannot become a part of one, and ''.
        """
        if (found := self._search(text, start)) is not None:
            return found.start(), found[0]
        if not final:
            for first in self._first.finditer(text, max(start, len(text) - self._longest + 1)):
                if text[first.start() :] in self._prefixes:
                    return first.start(), ""
        return len(text), ""


@lru_cache(maxsize=256)
def finder_of(marks: tuple[str, ...]) -> MarkFinder:
    """The finder of `marks`; cached."""
    return MarkFinder(marks)
