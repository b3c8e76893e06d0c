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


class Growth:
    """The growing text of one answer.

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
        self._doubt = ""  # a response that may go on from the text so far, or repeat it

    def feed(self, text: str) -> str:
        """Take the text of the next response; gives what is new of the answer."""
        if self._cumulative is False and not self._prompt and self._shown == len(self._seen):
            return text  # the usual case, whatever the length of the answer
        if not text or (self._cumulative is None and self._seen and not self._decided(text)):
            return ""
        self._append(text)
        return self._new()

    def finish(self) -> str:
        """The rest, when no more responses come."""
        if self._doubt:
            # Two responses only: a first one of some length is hardly repeated by chance.
            self._settle(cumulative=len(self._seen.strip()) > 2)
        self._prompt = ""  # what was held was no echo, but an answer that begins like the prompt
        return self._new(whole=True)

    def _decided(self, text: str) -> bool:
        """Look whether `text` repeats what came before; False while that is not clear, and `text` is kept."""
        if self._doubt:
            self._settle(cumulative=text.startswith(_whole_characters(self._doubt)))
        elif text.startswith(_whole_characters(self._seen)):
            self._doubt = text
            return False
        else:
            self._cumulative = self._habit.cumulative = False
        return True

    def _settle(self, *, cumulative: bool) -> None:
        doubt, self._doubt, self._cumulative = self._doubt, "", cumulative
        if not cumulative or len(self._seen) > _SURE:
            self._habit.cumulative = cumulative
        self._append(doubt)

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
