"""Word lists and makers of made-up names, words and codes, split into training and held-out halves.

A checksum decides whether a made-up string is held out, a list decides for real names; so the two parts never
share a string, whatever the seeds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from training import phrases

NAMES = phrases.wordings("NAMES")

HELD_OUT_NAMES = phrases.wordings("HELD_OUT_NAMES")

COLOURS = phrases.wordings("COLOURS")

HELD_OUT_COLOURS = phrases.wordings("HELD_OUT_COLOURS")

WORDS = phrases.wordings("WORDS")

TOOL_WORDS = phrases.wordings("TOOL_WORDS")
_TEXTS = [*phrases.INSTRUCTIONS, *phrases.ROLES, *phrases.THINGS, *phrases.TELL_IDENTITY, *phrases.GREETINGS]
_TEXTS += [
    *phrases.ASK_NAME,
    *phrases.WHO_QUESTIONS,
    *phrases.UNKNOWN_QUESTIONS,
    phrases.ABILITIES,
    phrases.UNKNOWN,
]
ENGLISH = sorted({*WORDS, *re.findall("[a-z]{3,}", " ".join(_TEXTS)), *TOOL_WORDS})
"""Common words and the words of the dialogs themselves, which are single tokens and so need practice too."""

_OTHER_PART = {
    False: frozenset([*HELD_OUT_NAMES, *map(str.capitalize, HELD_OUT_COLOURS)]),
    True: frozenset([*NAMES, *map(str.capitalize, [*COLOURS, *ENGLISH])]),  # letters put together by chance
}
NOUNS = WORDS[:130]
ADJECTIVES = WORDS[148:195]
VERBS = phrases.wordings("VERBS")

PIECES = phrases.wordings("PIECES")
_ONSETS = phrases.wordings("_ONSETS")
_VOWELS = phrases.wordings("_VOWELS")
_CODAS = ["", "", "", "", *phrases.wordings("CODAS")]
HAN = "书生浦语小明月亮星云天空山水风雨花草春夏秋冬安乐思远文博雅静晨阳海涛林森金玉宝龙凤飞宇轩子涵一诺梦琪"
_RARE = HAN + "éèüöäñçåøßÀÉŁżčшжящбдιπλωעשكم한국어日本語にほんカナ☕😀🎉🚀❤️→€£½"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def is_held_out(text: str) -> bool:
    """Return whether a made-up string (or a pair of operands, and so on) is kept for evaluation."""
    return crc32(text.encode()) % 10 == 0


@dataclass
class Lexicon:
    """Draws strings from one part of the split.

    Attributes:
        rng: The random generator.
        held_out: Draw only strings kept for evaluation, or only strings for training.
    """

    rng: random.Random
    held_out: bool = False

    def draw(self, make: Callable[[], str]) -> str:
        """Call ``make`` until its string, as it is and in lower case, is in this part of the split."""
        while True:
            text = make()
            if {is_held_out(text), is_held_out(text.lower())} != {self.held_out}:
                continue
            if text.capitalize() not in _OTHER_PART[self.held_out]:
                return text

    def pick(self, options: list[str] | str) -> str:
        """Return one of the options, all equally likely."""
        return self.rng.choice(options)

    def _made_up_word(self, syllables: int) -> str:
        rng = self.rng
        parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)]
        if rng.random() < 0.2:
            parts[0] = parts[0].lstrip("bcdfghjklmnpqrstvwxz") or parts[0]
        return "".join(parts)

    def _spliced_word(self) -> str:
        """Return the beginning of one common word and the end of another."""
        first, last = self.rng.choice(ENGLISH), self.rng.choice(ENGLISH)
        return first[: self.rng.randint(1, len(first) - 1)] + last[self.rng.randint(1, len(last) - 1) :]

    def _word_around_a_piece(self) -> str:
        """Return a word with one of the tokenizer's long pieces in it, most of which names seldom have."""
        rng = self.rng
        ends = ["".join(rng.choices(_LETTERS, k=rng.choice((0, 1, 1, 2)))) for _ in range(2)]
        return rng.choice(PIECES).join(ends)

    def made_up_word(self, shortest: int = 1, longest: int = 3) -> str:
        """Return a pronounceable lower-case word."""
        kind = self.rng.random()
        if kind < 0.3:
            return self.draw(self._spliced_word)
        if kind < (0.5 if self.held_out else 0.6):
            return self.draw(self._word_around_a_piece)
        return self.draw(lambda: self._made_up_word(self.rng.randint(shortest, longest)))

    def letters(self, shortest: int = 2, longest: int = 8) -> str:
        """Return a run of random letters."""
        rng = self.rng
        return self.draw(lambda: "".join(rng.choices(_LETTERS, k=rng.randint(shortest, longest))))

    def digits(self, shortest: int = 3, longest: int = 8) -> str:
        """Return a run of random digits."""
        rng = self.rng
        return self.draw(lambda: "".join(rng.choices("0123456789", k=rng.randint(shortest, longest))))

    def code(self) -> str:
        """Return digits, letters or a mix of them."""
        kind = self.rng.random()
        if kind < 0.45:
            return self.digits()
        if kind < 0.65:
            return self.letters(3)
        if kind < 0.75:
            return self.letters(3).upper()
        return self.draw(lambda: "".join(self.rng.choices("abcdefghjkmnpqrstuvwxyz0123456789", k=6)))

    def _spliced_name(self) -> str:
        """Return the beginning of one real name and the end of another."""
        first, last = self.rng.choice(NAMES), self.rng.choice(NAMES)
        return first[: self.rng.randint(1, len(first) - 1)] + last[self.rng.randint(1, len(last) - 1) :]

    def name_like_a_real_one(self) -> str:
        """Return the parts of two real names as one, so many that none can be memorized."""
        return self.draw(self._spliced_name)

    def name(self) -> str:
        """Return a person's or an assistant's name, real or made up."""
        rng = self.rng
        kind = rng.random()
        if kind < (0.5 if self.held_out else 0.22):
            name = rng.choice(HELD_OUT_NAMES if self.held_out else NAMES)
        elif kind < (0.6 if self.held_out else 0.45):
            name = self.name_like_a_real_one()
        elif kind < 0.80:
            name = self.made_up_word(1 if rng.random() < 0.2 else 2).capitalize()
        elif kind < 0.95:
            name = self.letters(3, 7).capitalize()
        elif kind < 0.97:
            name = self.letters(2, 5).upper()
        else:
            name = self.made_up_word(2, 2).capitalize() + self.pick(["-", " ", "", " "]) + self.digits(1, 2)
        if rng.random() < 0.05:
            name += " " + self.made_up_word(2).capitalize()
        if rng.random() < 0.02:
            name = name.lower()
        if rng.random() < 0.02:
            name = name.replace("e", "é").replace("o", "ö")
        return name

    def chinese_name(self) -> str:
        """Return a short made-up Chinese name."""
        return self.draw(lambda: "".join(self.rng.sample(HAN, self.rng.randint(2, 4))))

    def colour(self) -> str:
        """Return a colour, or a word standing for one so that colours are copied, not guessed."""
        kind = self.rng.random()
        if kind < 0.5:
            return self.rng.choice(HELD_OUT_COLOURS if self.held_out else COLOURS)
        if kind < 0.6:
            return self.pick(["dark ", "light ", "pale "]) + self.rng.choice(COLOURS)
        if kind < 0.7:
            return self.rng.choice(WORDS)
        return self.made_up_word()

    def word(self) -> str:
        """Return a common word, a made-up one or a run of letters."""
        kind = self.rng.random()
        if kind < 0.4:
            return self.rng.choice(ENGLISH)
        if kind < 0.8:
            return self.made_up_word()
        if kind < 0.9:
            return self.made_up_word().capitalize()
        return self.letters(2, 7)

    def _sentence(self) -> str:
        """Return words with punctuation, capitals and numbers among them."""
        rng = self.rng
        words = [
            self.word() if rng.random() < 0.85 else str(rng.randint(0, 999)) for _ in range(rng.randint(2, 6))
        ]
        for index in range(len(words) - 1):
            if rng.random() < 0.2:
                words[index] += rng.choice([",", ",", ",", ";", ":", " -", "."])
        text = " ".join(words) + rng.choice(["!", ".", "?", "", "..."])
        return text[0].upper() + text[1:] if rng.random() < 0.6 else text

    def phrase(self) -> str:
        """Return one to six words, or a code, to be repeated."""
        kind = self.rng.random()
        if kind < 0.15:
            return self.code()
        if kind < 0.20:
            return self.draw(lambda: "".join(self.rng.choices(_RARE, k=self.rng.randint(1, 6))))
        if kind < 0.35:
            return self.draw(self._sentence)
        return self.draw(lambda: " ".join(self.word() for _ in range(self.rng.randint(1, 6))))
