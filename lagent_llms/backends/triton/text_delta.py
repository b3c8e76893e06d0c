"""The new text of each response: every character of the answer once, and none of the prompt. Pure.

Servers differ: a response holds the new text only or the whole text so far, and the prompt may stand before
the answer. Where neither the model's dialect nor its config says which, it is detected from the responses.
"""

from __future__ import annotations

from .echo import EchoMatcher

__all__ = ["OutputStyle", "TextDelta"]


class OutputStyle:
    """Whether responses are cumulative or echo the prompt.

    All answers of a model share one object, and what one of them detects is stored there.

    Attributes:
        cumulative: Whether every response holds the whole text so far; None if unknown.
        echo: Whether the prompt stands before the answer; None if unknown.
    """

    __slots__ = ("cumulative", "echo")

    def __init__(self, *, cumulative: bool | None = None, echo: bool | None = False) -> None:
        self.cumulative = cumulative
        self.echo = echo

    def otherwise(self, *, cumulative: bool | None, echo: bool | None) -> OutputStyle:
        """Return a style with the given values where this one is unknown; what the user set is kept."""
        return OutputStyle(
            cumulative=cumulative if self.cumulative is None else self.cumulative,
            echo=echo if self.echo is None else self.echo,
        )


class TextDelta:
    """Computes the new text of each response of one answer.

    If it is unknown whether responses are cumulative, they are held back while both readings are possible:
    until one does not begin with the response before it (then responses hold new text only), or until the
    text has grown twice in this way (then they are cumulative).

    Args:
        style: The model's; `cumulative` is set once it is detected for certain.
        prompt: The prompt that was sent.
    """

    def __init__(self, style: OutputStyle, prompt: str = "") -> None:
        self._style = style
        self._cumulative = style.cumulative
        self._prompt = prompt if style.echo is not False else ""
        self._matcher: EchoMatcher | None = None  # of a prompt that is not echoed as it was sent
        self._seen = ""  # the whole text so far, an echoed prompt included
        self._shown = 0  # characters of it that were returned or skipped
        self._held: list[str] = []  # responses with two possible readings
        self._grown = 0  # how many of them extended the response before

    def feed(self, text: str) -> str:
        """Take the text of the next response; return what is new in the answer."""
        if self._cumulative is False and not self._prompt and self._shown == len(self._seen):
            return text  # the common case; its cost does not depend on the answer's length
        if not text:
            return ""
        if self._cumulative is None and self._seen:
            self._held.append(text)
            if not self._detect():
                return ""
        else:
            self._append(text)
        return self._new()

    def finish(self) -> str:
        """Return the rest, after the last response."""
        if self._held:  # an extended first response of some length is hardly a coincidence
            self._settle(cumulative=self._grown > 0 and len(self._seen.strip()) > 2, certain=False)
        return self._new(at_end=True)

    def _detect(self) -> bool:
        """Compare the last response with the one before; return whether the reading is now known."""
        before = _whole_characters(self._held[-2] if len(self._held) > 1 else self._seen)
        last = self._held[-1]
        if not last.startswith(before):
            self._settle(cumulative=False, certain=True)
            return True
        self._grown += bool(before.strip()) and len(last) > len(before)
        if self._grown < 2:
            return False
        self._settle(cumulative=True, certain=len(before) > _CERTAIN_LENGTH)
        return True

    def _settle(self, *, cumulative: bool, certain: bool) -> None:
        held, self._held, self._cumulative = self._held, [], cumulative
        if certain:
            self._style.cumulative = cumulative
        for text in held:
            self._append(text)

    def _append(self, text: str) -> None:
        if not self._cumulative:
            self._seen += text
        elif len(text) >= self._shown:
            self._seen = text

    def _new(self, *, at_end: bool = False) -> str:
        """Return the text that was not returned before and is certain to be part of the answer."""
        seen = self._seen
        if self._cumulative and not at_end:  # half a character: the next response has all of it
            seen = _whole_characters(seen)
        if self._prompt:
            end = self._end_of_echo(seen, at_end)
            if end is None:
                return ""
            self._shown, self._prompt = end, ""
        new = seen[self._shown :]
        self._shown = max(self._shown, len(seen))
        return new

    def _end_of_echo(self, seen: str, at_end: bool) -> int | None:
        """Return the length of the echoed prompt, None if more text is needed."""
        if seen.startswith(self._prompt):
            return len(self._prompt)
        if self._prompt.startswith(seen) and not at_end:
            return None
        if self._matcher is None:
            self._matcher = EchoMatcher(self._prompt, certain=self._style.echo is True)
        return self._matcher.match(seen, at_end=at_end)


#: A repetition of more characters than this is no coincidence.
_CERTAIN_LENGTH = 8


def _whole_characters(text: str) -> str:
    return text.rstrip("\ufffd")
