"""Find the end of a prompt that stands before the answer as the server's detokenizer writes it. Pure."""

from __future__ import annotations

import re

from ...errors import ConfigError

__all__ = ["EchoMatcher"]

_SPECIAL = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>|</?[A-Za-z_]\w{0,20}>|\[/?[A-Z_]{2,20}\]")
#: The beginning of a special token at the end of a text.
_UNFINISHED = re.compile(r"(?:<[|｜/]?[^<>\s]{0,41}|\[/?[A-Z_]{0,20})\Z")
#: An echo of at least so many characters, without spaces and special tokens, is no coincidence.
_CERTAIN_LENGTH = 8


class EchoMatcher:
    """Matches the beginning of a growing text with a prompt.

    A detokenizer may change spaces, drop special tokens, and put special tokens (a BOS) before the prompt.

    Args:
        prompt: The prompt that was sent.
        certain: Whether the user says that the prompt is echoed.
    """

    def __init__(self, prompt: str, *, certain: bool) -> None:
        self._certain = certain
        self._prompt = prompt
        self._tokens = {match.start(): match[0] for match in _SPECIAL.finditer(prompt)}
        self._at = self._end = 0  # positions in the prompt and in the text
        self._matched = 0  # characters that are equal, without spaces and special tokens
        self._special = False  # whether the text has a special token

    def match(self, text: str, *, at_end: bool = False) -> int | None:
        """Return the position of the answer in `text`, which extends the text of the last call.

        Args:
            text: The text so far.
            at_end: Whether no more text comes.

        Returns:
            0 if the text does not begin with the prompt, None if more text is needed.

        Raises:
            ConfigError: The text begins like the prompt and then differs.
        """
        prompt = self._prompt
        while self._at < len(prompt):
            if prompt[self._at].isspace():
                self._at += 1
                continue
            self._end = _skip_spaces(text, self._end)
            rest = text[self._end : self._end + 64]
            token = self._tokens.get(self._at)
            if not at_end and (not rest or (self._end + len(rest) == len(text) and _UNFINISHED.match(rest))):
                return None
            if token is not None:
                self._at += len(token)
                if rest.startswith(token):
                    self._end, self._special = self._end + len(token), True
            elif rest[:1] == prompt[self._at]:
                self._at, self._end, self._matched = self._at + 1, self._end + 1, self._matched + 1
            elif self._matched == 0 and (extra := _SPECIAL.match(rest)):
                self._end, self._special = self._end + extra.end(), True
            else:
                return self._no_match(text)
        if not (self._certain or self._special) and self._matched < _CERTAIN_LENGTH:
            return 0
        self._end = _skip_spaces(text, self._end)
        return self._end if at_end or self._end < len(text) else None

    def _no_match(self, text: str) -> int:
        if self._matched < _CERTAIN_LENGTH or not (self._certain or self._special):
            return 0  # an answer with words of the prompt
        raise ConfigError(
            "the text of the server begins with the prompt but then differs: it has "
            f"{text[self._end :][:40]!r} where the prompt has {self._prompt[self._at :][:40]!r}. So it is "
            "unknown where the answer begins; echo=False returns the whole text"
        )


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
