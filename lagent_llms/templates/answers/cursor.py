"""Text that arrives in pieces, and generators that read it: each yields when it needs more. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator

from .marks import finder_of

__all__ = ["Cursor", "Reading", "read_balanced", "read_match", "read_space", "read_until", "skip"]

#: A generator that reads; it returns whether it has found what it looks for.
Reading = Generator[None, None, bool]

#: Most characters of what stands before the arguments of a call.
_MAX_HEAD = 1024
#: Deepest nesting that is read; see `untrusted.read_json`.
_MAX_DEPTH = 128

_SPACE = re.compile(r"\s*")
_STRUCTURE = {False: re.compile(r'["{}\[\]]'), True: re.compile(r"""["'{}()\[\]]""")}
_IN_STRING = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


class Cursor:
    """Text that arrives, read from its beginning; what was read since `keep` can be read again.

    Attributes:
        text: Text at hand.
        at: Where the unread part of it begins.
        final: No text follows.
    """

    __slots__ = ("_kept", "at", "final", "text")

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.final = False
        self._kept: list[str] = []

    def add(self, text: str, *, final: bool) -> None:
        """Add text at the end."""
        self.text, self.at, self.final = self.text[self.at :] + text, 0, final

    def take(self, count: int) -> str:
        """Read `count` characters."""
        taken = self.text[self.at : self.at + count]
        self.at += count
        self._kept.append(taken)
        return taken

    def keep(self) -> None:
        """Keep what is read from here on."""
        self._kept.clear()

    def go_back(self) -> None:
        """Unread what was read since `keep`."""
        kept = "".join(self._kept)
        self._kept.clear()
        if len(kept) <= self.at:
            self.at -= len(kept)
        else:  # parts of it are no longer at hand
            self.text, self.at = kept + self.text[self.at :], 0

    @property
    def next(self) -> str:
        """The next character, '' if it is not at hand."""
        return self.text[self.at : self.at + 1]

    def after_space(self) -> str:
        """The next character that is no white space, '' if it is not at hand."""
        end = _end_of_space(self)
        return self.text[end : end + 1]


def _end_of_space(cursor: Cursor) -> int:
    found = _SPACE.match(cursor.text, cursor.at)
    assert found is not None  # it matches nothing as well
    return found.end()


def read_space(cursor: Cursor) -> Reading:
    """Read white space; True if something follows."""
    while True:
        cursor.take(_end_of_space(cursor) - cursor.at)
        if cursor.next or cursor.final:
            return bool(cursor.next)
        yield


def skip(cursor: Cursor, mark: str) -> Reading:
    """Read white space, and `mark` if it follows."""
    while (yield from read_space(cursor)) and mark:
        if cursor.text.startswith(mark, cursor.at):
            cursor.take(len(mark))
            return True
        unread = len(cursor.text) - cursor.at
        if cursor.final or unread >= len(mark) or not mark.startswith(cursor.text[cursor.at :]):
            return False
        yield
    return False


def read_match(
    cursor: Cursor, pattern: re.Pattern[str], hopeless: re.Pattern[str] | None = None
) -> Generator[None, None, re.Match[str] | None]:
    """Read what `pattern` matches; it must decide on 1,024 characters.

    Args:
        cursor: The text.
        pattern: The pattern.
        hopeless: Matches text that `pattern` does not match, whatever follows.
    """
    while True:
        if (found := pattern.match(cursor.text, cursor.at, cursor.at + _MAX_HEAD)) is not None:
            cursor.take(found.end() - cursor.at)
            return found
        if cursor.final or len(cursor.text) - cursor.at >= _MAX_HEAD:
            return None
        if hopeless is not None and hopeless.match(cursor.text, cursor.at) is not None:
            return None
        yield


def read_until(
    cursor: Cursor, marks: tuple[str, ...], write: Callable[[str], object]
) -> Generator[None, None, str]:
    """Read text and the first of `marks` after it.

    Returns:
        The mark, '' if the text ends without one.
    """
    find = finder_of(marks).find
    while True:
        end, mark = find(cursor.text, cursor.at, final=cursor.final)
        write(cursor.take(end - cursor.at))
        if mark or cursor.final:
            cursor.take(len(mark))
            return mark
        yield


def read_balanced(
    cursor: Cursor, write: Callable[[str], object], *, depth: int = 0, python: bool = False
) -> Reading:
    """Read up to the bracket that closes the first one; brackets in strings do not count.

    Args:
        cursor: The text.
        write: Gets what is read.
        depth: Brackets that are open already.
        python: Strings may stand in single quotes as well.
    """
    quote = ""
    while True:
        place = cursor.at
        while found := (_IN_STRING[quote] if quote else _STRUCTURE[python]).search(cursor.text, place):
            char, place = found[0], found.end()
            if char == "\\":
                if place == len(cursor.text) and not cursor.final:
                    place -= 1
                    break  # what it escapes is not at hand
                place += 1
            elif quote:
                quote = ""
            elif char in "\"'":
                quote = char
            elif char in "{[(":
                depth += 1
                if depth > _MAX_DEPTH:
                    write(cursor.take(place - cursor.at))
                    return False
            else:
                depth -= 1
                if depth <= 0:
                    write(cursor.take(place - cursor.at))
                    return depth == 0
        else:
            place = len(cursor.text)
        write(cursor.take(place - cursor.at))
        if cursor.final:
            return False
        yield
