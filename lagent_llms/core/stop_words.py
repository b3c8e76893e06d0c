"""Find stop words in text that arrives in pieces; hold back the beginning of one until it is decided.

An Aho-Corasick automaton over characters: building it takes time and memory linear in the length of the
words, a stream of n characters costs O(n), whatever words and text are. The outcome does not depend on where
the text was cut: the stop word whose last character comes first ends the text (of two that end together, the
longer), as if the text had arrived character by character.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

__all__ = ["StopWordScanner"]

#: Characters of stop words whose tables are cached, about: 20 bytes per character, 350 in many short words.
_CACHE_LIMIT = 1 << 16


class StopWordScanner:
    """Incremental search for any of several stop words.

    Args:
        words: The stop words; without any, `feed` returns everything.

    Attributes:
        matched: The stop word that was found, None so far.
    """

    __slots__ = ("_find_first", "_state", "_tables", "matched")

    def __init__(self, words: Iterable[str] = ()) -> None:
        words = tuple(words)
        self.matched: str | None = None
        self._tables = (_cached_tables if sum(map(len, words)) <= _CACHE_LIMIT else _build_tables)(words)
        self._find_first = self._tables.find_first
        self._state = 0  # its text is the text held back

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
        find_first = self._find_first
        if find_first is None or not text:
            return text
        state, position = self._state, 0
        if not state:
            if (first := find_first(text)) is None:
                return text
            position = first.start()
        words, word, depth, fail, ends, nexts, branches, _ = self._tables
        before, end = state, len(text)
        while True:
            char = text[position]
            position += 1
            while nexts[state] != char:
                if (state, char) in branches:
                    state = branches[state, char]
                    break
                if not state:
                    break
                state = fail[state]
            else:
                state += 1
            if ends[state] or position == end:
                break
            if not state:
                if (first := find_first(text, position)) is None:
                    position = end
                    break
                position = first.start()
        kept = ends[state] or depth[state]
        released = depth[before] + position - kept
        if ends[state]:
            self.matched = words[word[state]][depth[state] - kept : depth[state]]
            state = 0
        self._state = state
        if not before:
            return text[:released]
        if released <= depth[before]:  # costs what is released, however long the rest is
            return words[word[before]][:released]
        return words[word[before]][: depth[before]] + text[: released - depth[before]]

    def flush(self) -> str:
        """The text still held back, at the end of the answer."""
        tables, state, self._state = self._tables, self._state, 0
        return tables.words[tables.word[state]][: tables.depth[state]] if state else ""


class _Tables(NamedTuple):
    """The automaton of a set of stop words. A state is the beginning of a word; 0 is the empty one.

    Attributes:
        words: The stop words, shorter ones first.
        word: The place in `words` of a word that begins with the state.
        depth: The number of its characters.
        fail: The longest shorter state that the state ends with.
        ends: Characters of the longest stop word that the state ends with, 0 for none.
        nexts: The character that leads from each state to the one numbered next.
        branches: All other transitions: (state, character) to state.
        find_first: Finds where a word may begin: a first character and a second one, or the end of the text.
            None when there are no words.
    """

    words: Sequence[str]
    word: array[int]
    depth: array[int]
    fail: array[int]
    ends: array[int]
    nexts: str
    branches: dict[tuple[int, str], int]
    find_first: Callable[..., re.Match[str] | None] | None


def _build_tables(stop_words: tuple[str, ...]) -> _Tables:
    # Shorter words first: one that begins with another can never be the first to be complete.
    words = sorted({word for word in stop_words if word}, key=len)
    owner, depth, parent, ends = (array("I", [0]) for _ in range(4))
    nexts = [""]
    branches: dict[tuple[int, str], int] = {}
    last = []
    for number, word in enumerate(words):
        state = 0
        for position, char in enumerate(word, 1):
            if nexts[state] == char:
                state += 1
            elif (state, char) in branches:
                state = branches[state, char]
            else:
                new = len(nexts)
                if nexts[state]:
                    branches[state, char] = new
                else:
                    nexts[state] = char
                nexts.append("")
                owner.append(number)
                depth.append(position)
                parent.append(state)
                ends.append(0)
                state = new
            if ends[state]:
                break
        else:
            ends[state] = len(word)
        last.append(state)
    fail = array("I", [0]) * len(nexts)
    for state in sorted(range(1, len(nexts)), key=depth.__getitem__):
        above = parent[state]
        if ends[above]:
            ends[state] = ends[above]
        elif above:
            char = words[owner[state]][depth[state] - 1]
            other = fail[above]
            while nexts[other] != char and (other, char) not in branches and other:
                other = fail[other]
            fail[state] = other + 1 if nexts[other] == char else branches.get((other, char), 0)
            ends[state] = ends[state] or ends[fail[state]]
    reachable = [
        word
        for word, state in zip(words, last, strict=True)
        if depth[state] == len(word) and not ends[parent[state]]
    ]
    if len(reachable) < len(words):  # the others contain a word that is complete before them
        return _build_tables(tuple(reachable))
    return _Tables(
        words, owner, depth, fail, ends,
        "".join(char or "\0" for char in nexts),  # the last state of a word has no next, and is not left
        branches, _find_first(words),
    )  # fmt: skip


def _find_first(words: Sequence[str]) -> Callable[..., re.Match[str] | None] | None:
    if not words:
        return None
    first, second = (
        "".join(re.escape(char) for char in sorted({word[place] for word in words if len(word) > place}))
        for place in (0, 1)
    )
    alone = any(len(word) == 1 for word in words)
    return re.compile(f"[{first}]" if alone else rf"[{first}](?:[{second}]|\Z)").search


@lru_cache(maxsize=256)  # most calls of a backend have the same words
def _cached_tables(stop_words: tuple[str, ...]) -> _Tables:
    global _n_cached
    tables = _build_tables(stop_words)
    _n_cached += len(tables.nexts)
    if _n_cached > _CACHE_LIMIT:
        _cached_tables.cache_clear()
        _n_cached = len(tables.nexts)
    return tables


_n_cached = 0
