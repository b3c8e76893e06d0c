"""Split the reasoning off an answer that arrives in pieces. Pure."""

from __future__ import annotations

from .formats import ReasoningFormat
from .marks import finder_of

__all__ = ["ReasoningSplitter"]


#: Most white space before the mark that begins an answer, and most newlines before the mark after reasoning.
_MAX_SPACE, _MAX_NEWLINES = 64, 8


class ReasoningSplitter:
    """Split an answer into its reasoning and its text, however it is cut into pieces.

    Newlines around the reasoning belong to the marks. Reasoning without the mark after it lasts to the end.

    Args:
        marks: How the model writes reasoning.
        inside: The prompt ends with the mark before it, so the answer begins with reasoning.
    """

    __slots__ = ("_held", "_inside", "_marks", "_outside", "_starting", "_strip")

    def __init__(self, marks: ReasoningFormat, *, inside: bool = False) -> None:
        self._marks = marks
        self._outside = finder_of((marks.open, *marks.removed)) if marks.anywhere else None
        self._inside = inside
        self._starting = inside or not marks.anywhere  # decides whether the answer begins with the mark
        self._strip = False  # newlines follow a mark
        self._held = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that may follow while it is `idle`."""
        return (self._marks.open, *self._marks.removed) if self._marks.anywhere else ()

    @property
    def idle(self) -> bool:
        """Whether text without the beginning of a mark passes as it is."""
        return not (self._starting or self._inside or self._strip or self._held)

    def feed(self, text: str, *, final: bool = False) -> tuple[str, str]:
        """Take the next piece: the new reasoning, and the new text.

        Args:
            text: Any number of characters.
            final: No text follows.
        """
        if self._outside is None and self.idle:
            return "", text
        text, self._held = self._held + text, ""
        if self._starting:
            begin = text.lstrip()
            near = len(text) - len(begin) <= _MAX_SPACE
            if (
                near
                and not final
                and len(begin) < len(self._marks.open)
                and self._marks.open.startswith(begin)
            ):
                self._held = text
                return "", ""
            if near and begin.startswith(self._marks.open):
                text, self._inside = begin[len(self._marks.open) :], True
            self._strip, self._starting = self._inside, False
        parts: tuple[list[str], list[str]] = ([], [])
        while text:
            if self._strip:
                text = text.lstrip("\n")
                if not text:
                    break
                self._strip = False
            inside = self._inside
            finder = finder_of((self._marks.close,)) if inside else self._outside
            end, mark = (len(text), "") if finder is None else finder.find(text, final=final)
            shown = text[:end]
            if inside:
                if mark or final:
                    shown = shown[: max(len(shown.rstrip("\n")), end - _MAX_NEWLINES)]
                else:
                    end = max(len(shown.rstrip("\n")), end - _MAX_NEWLINES)
                    shown = shown[:end]
            parts[0 if inside else 1].append(shown)
            text = text[end + len(mark) :]
            if not mark:
                self._held = "" if final else text
                break
            if inside or mark == self._marks.open:
                self._inside, self._strip = not inside, True
        return "".join(parts[0]), "".join(parts[1])
