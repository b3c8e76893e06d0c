"""Find stop words in text that arrives in pieces; hold back the beginning of one until it is decided.

Each piece is searched with the held suffix only, so a stream of n characters costs O(n). The outcome does not
depend on where the text was cut: the stop word whose last character comes first ends the text (of two that
end together, the longer), as if the text had arrived character by character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

__all__ = ["StopWordScanner"]


class StopWordScanner:
    """Incremental search for any of several stop words.

    Args:
        words: The stop words; without any, `feed` returns everything.

    Attributes:
        matched: The stop word that was found, None so far.
    """

    __slots__ = ("_found", "_gate", "_held", "_longest", "_prefixes", "matched")

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.matched: str | None = None
        self._held = ""
        self._found, self._gate, self._prefixes, self._longest = _compiled(tuple(words))

    def feed(self, text: str) -> str:
        """Take the next piece of text.

        Args:
            text: Any number of characters.

        Returns:
            The text that cannot become a stop word any more. When `matched` is set: the rest before the
            stop word, and '' for all text after it.
        """
        if self.matched is not None:
            return ""
        if self._gate is None:
            return text
        if self._held:
            text = self._held + text
        gate = self._gate(text)
        if gate is None:
            return text
        if hit := self._found.search(text, gate.start()):
            self.matched = hit.group()
            self._held = ""
            return text[: hit.start()]
        start = max(len(text) - self._longest, gate.start())
        for cut in range(start, len(text)):
            if text[cut:] in self._prefixes:
                self._held = text[cut:]
                return text[:cut]
        self._held = ""
        return text

    def flush(self) -> str:
        """The text still held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


class _Compiled(NamedTuple):
    """Search tables of a set of stop words.

    Attributes:
        found: Matches one of the words.
        gate: Matches any word's first character: a piece without it can neither hold nor begin a word. None
            when there are no words.
        prefixes: Every beginning of a word, except the whole word.
        longest: Characters of the longest of these.
    """

    found: re.Pattern[str]
    gate: Callable[[str], re.Match[str] | None] | None
    prefixes: frozenset[str]
    longest: int


@lru_cache(maxsize=256)  # most calls of a backend have the same words
def _compiled(words: tuple[str, ...]) -> _Compiled:
    kept = _without_unreachable(words)
    firsts = "".join(re.escape(char) for char in sorted({word[0] for word in kept}))
    return _Compiled(
        # Longer words first: at one place the regex engine takes the first alternative that fits.
        re.compile("|".join(re.escape(word) for word in sorted(kept, key=len, reverse=True))),
        re.compile(f"[{firsts}]").search if kept else None,
        frozenset(word[:n] for word in kept for n in range(1, len(word))),
        max(map(len, kept), default=0) - 1,
    )


def _without_unreachable(words: Iterable[str]) -> list[str]:
    """`words` without those that can never be the first to be complete.

    Such a word contains another one, not only at its end. Without them, the match that starts first is also
    the one that ends first.
    """
    distinct = list(dict.fromkeys(word for word in words if word))
    return [word for word in distinct if not any(other != word and other in word[:-1] for other in distinct)]
