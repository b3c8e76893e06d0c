"""Grammars of llama.cpp (GBNF) from regular expressions and choices. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["choice_grammar", "regex_grammar"]

#: What shorthands of characters stand for, in a set of GBNF.
_SHORTHANDS = {"d": "0-9", "w": "0-9A-Za-z_", "s": r" \t\n\r\x0B\x0C"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_REPEATED = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_HEX = {"x": 2, "u": 4, "U": 8}
_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z_]\w*>)")


def choice_grammar(choices: Sequence[str]) -> str:
    """The grammar of one of several texts."""
    return f"root ::= {' | '.join(map(_literal, choices))}"


def regex_grammar(pattern: str) -> str:
    """The grammar of texts that match `pattern` as a whole.

    Raises:
        ValueError: The pattern has a part that no grammar has, or is no regular expression.
    """
    parser = _Parser(pattern)
    rule = parser.alternatives()
    if parser.rest:
        raise ValueError(f"unbalanced ')' at {parser.at}")
    return f"root ::= {rule}"


class _Parser:
    """Reads a regular expression from left to right.

    Args:
        pattern: The regular expression.

    Attributes:
        at: Index of the next character.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    @property
    def rest(self) -> str:
        """What has not been read."""
        return self._pattern[self.at :]

    def alternatives(self) -> str:
        """Read up to the end of the pattern or of the group."""
        found = [self._sequence()]
        while self.rest.startswith("|"):
            self.at += 1
            found.append(self._sequence())
        return " | ".join(found)

    def _sequence(self) -> str:
        begin, found = self.at, []
        while (rest := self.rest) and rest[0] not in "|)":
            if (rest[0] == "^" and self.at == begin) or (rest[0] == "$" and rest[1:2] in ("", "|", ")")):
                self.at += 1  # the whole text has to match in any case
                continue
            found.append(self._repeated(self._item()))
        return " ".join(found) or '""'

    def _repeated(self, item: str) -> str:
        match = _REPEATED.match(self._pattern, self.at)
        if match is None or match[0] in ("{}", "{,}"):
            return item
        low, comma, high = match.groups()
        times = match[0] if low is None else f"{{{low or 0}{comma}{high}}}"
        self.at = match.end()
        if self.rest.startswith("?"):  # which of several matches is found makes no difference
            self.at += 1
        if _REPEATED.match(self._pattern, self.at):
            raise ValueError(f"multiple repeat at {self.at}")
        return item + times

    def _item(self) -> str:
        char = self.rest[0]
        if char == "(":
            return self._group()
        if char == "[":
            return self._set()
        if char in "*+?^$":
            raise ValueError(f"{char!r} at {self.at} is not supported here")
        self.at += 1
        if char == ".":
            return r"[^\n]"
        if char != "\\":
            return _literal(char)
        char, members, negated = self._escape()
        return f"[{'^' if negated else ''}{members}]" if members else _literal(char)

    def _group(self) -> str:
        begin = self.at
        if self.rest.startswith("(?"):
            if (match := _GROUP.match(self._pattern, begin)) is None:
                raise ValueError(f"{self.rest[:4]!r} at {begin} is not supported")
            self.at = match.end()
        else:
            self.at += 1
        inner = self.alternatives()
        if not self.rest:
            raise ValueError(f"missing ')' for the group at {begin}")
        self.at += 1
        return f"( {inner} )"

    def _set(self) -> str:
        begin, members = self.at, ""
        self.at += 1
        negated = self.rest.startswith("^")
        self.at += negated
        first = ""  # the character before, where a range may begin
        while not (rest := self.rest).startswith("]") or not members:
            if not rest:
                raise ValueError(f"missing ']' for the set at {begin}")
            if rest[0] == "-" and first and rest[1:2] not in ("]", ""):
                self.at += 1
                last, _ = self._member(begin)
                if not last:
                    raise ValueError(f"bad range in the set at {begin}")
                members, first = f"{members}-{last}", ""
                continue
            first, shorthand = self._member(begin)
            members += first or shorthand
        self.at += 1
        return f"[{'^' if negated else ''}{members}]"

    def _member(self, begin: int) -> tuple[str, str]:
        """A character of a set, or a shorthand."""
        char = self.rest[0]
        self.at += 1
        if char != "\\":
            return _escaped(char), ""
        char, members, negated = self._escape(in_set=True)
        if negated:
            raise ValueError(f"a negated shorthand in the set at {begin} is not supported")
        return ("", members) if members else (_escaped(char), "")

    def _escape(self, *, in_set: bool = False) -> tuple[str, str, bool]:
        """What follows a backslash: a character, or members of a set and whether it is negated."""
        begin, char = self.at - 1, self.rest[:1]
        self.at += 1
        if not char:
            raise ValueError("the pattern ends with a backslash")
        if (members := _SHORTHANDS.get(char.lower())) is not None:
            return "", members, char.isupper()
        if char in _HEX:
            digits = self.rest[: _HEX[char]]
            self.at += _HEX[char]
            try:
                if len(digits) == _HEX[char]:
                    return chr(int(digits, 16)), "", False
            except (ValueError, OverflowError):
                pass
            raise ValueError(f"bad escape at {begin}")
        if char in _CONTROLS:
            return _CONTROLS[char], "", False
        if char == "b" and in_set:
            return "\b", "", False
        if char.isalnum():
            raise ValueError(f"\\{char} at {begin} is not supported")
        return char, "", False


def _literal(text: str) -> str:
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(char: str) -> str:
    """A character in a text or a set of a grammar."""
    if char.isascii():
        return char if char.isalnum() or char == " " else f"\\x{ord(char):02X}"
    return char
