"""From what responses say to the new text of the answer: each character once, and none of the prompt. Pure.

Servers differ: a response may hold the new text only or the whole text so far, and the prompt may stand
before the answer. Where the model's dialect or config does not tell, the responses do.
"""

from __future__ import annotations

__all__ = ["Growth", "Habit"]


class Habit:
    """How one model tells its text, as far as that is known; shared by all its answers.

    Attributes:
        cumulative: Every response holds the whole text so far; None when that is not known.
        echo: The prompt stands before the answer; None when it may.
    """

    __slots__ = ("cumulative", "echo")

    def __init__(self, *, cumulative: bool | None = None, echo: bool | None = False) -> None:
        self.cumulative = cumulative
        self.echo = echo

    def otherwise(self, *, cumulative: bool | None, echo: bool | None) -> Habit:
        """A habit that is this one where it is known (the user may have said), and else as given."""
        return Habit(
            cumulative=cumulative if self.cumulative is None else self.cumulative,
            echo=echo if self.echo is None else self.echo,
        )


class Growth:
    """The growing text of one answer.

    Where it is not known whether responses repeat what came before, they are kept back while both can be:
    until one does not begin with the one before it (then each holds new text only), or the text has grown
    twice that way (then each holds all of it).

    Args:
        habit: Of the model; what is found out for sure is written there.
        prompt: What was sent.
    """

    def __init__(self, habit: Habit, prompt: str = "") -> None:
        self._habit = habit
        self._cumulative = habit.cumulative
        self._prompt = prompt if habit.echo is not False else ""
        self._seen = ""  # all text so far, the prompt included
        self._shown = 0  # how much of it was given out (or left out)
        self._kept: list[str] = []  # responses that may be read either way
        self._grown = 0  # how often one of them went on from the one before it

    def feed(self, text: str) -> str:
        """Take the text of the next response; gives what is new of the answer."""
        if self._cumulative is False and not self._prompt and self._shown == len(self._seen):
            return text  # the usual case, whatever the length of the answer
        if not text:
            return ""
        if self._cumulative is None and self._seen:
            self._kept.append(text)
            if not self._decided():
                return ""
        else:
            self._append(text)
        return self._new()

    def finish(self) -> str:
        """The rest, when no more responses come."""
        if self._kept:  # two responses, say: a first one of some length is hardly repeated by chance
            self._settle(cumulative=self._grown > 0 and len(self._seen.strip()) > 2, sure=False)
        self._prompt = ""  # what was held was no echo, but an answer that begins like the prompt
        return self._new(whole=True)

    def _decided(self) -> bool:
        """Look at the last response: does it repeat those before it?"""
        before = _whole_characters(self._kept[-2] if len(self._kept) > 1 else self._seen)
        last = self._kept[-1]
        if not last.startswith(before):
            self._settle(cumulative=False, sure=True)
            return True
        self._grown += bool(before.strip()) and len(last) > len(before)
        if self._grown < 2:
            return False
        self._settle(cumulative=True, sure=len(before) > _SURE)
        return True

    def _settle(self, *, cumulative: bool, sure: bool) -> None:
        kept, self._kept, self._cumulative = self._kept, [], cumulative
        if sure:
            self._habit.cumulative = cumulative
        for text in kept:
            self._append(text)

    def _append(self, text: str) -> None:
        if not self._cumulative:
            self._seen += text
        elif len(text) >= self._shown:
            self._seen = text

    def _new(self, *, whole: bool = False) -> str:
        """What can be given out of the text so far."""
        seen = self._seen
        if self._cumulative and not whole:  # half a character: the next response has all of it
            seen = _whole_characters(seen)
        if self._prompt:
            if len(seen) < len(self._prompt) and self._prompt.startswith(seen):
                return ""
            echoed = seen.startswith(self._prompt)
            self._shown = len(self._prompt) if echoed else 0
            self._prompt = ""
        new = seen[self._shown :]
        self._shown = max(self._shown, len(seen))
        return new


#: After so many characters of text that is repeated, it is no chance.
_SURE = 8


def _whole_characters(text: str) -> str:
    return text.rstrip("\ufffd")
