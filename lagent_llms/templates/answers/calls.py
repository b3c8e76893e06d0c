"""Read calls of tools in an answer that arrives in pieces. Pure.

The outcome does not depend on where the answer was cut, reading takes linear time, and no answer is an error:
what is no call stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...schema import ToolCall, ToolCallDelta
from .cursor import Cursor, Reading
from .formats import CallFormat
from .marks import finder_of
from .sink import CallSink
from .syntax import read_section

__all__ = ["CallReader"]

#: Most sections that are no calls; after so many the rest of the answer is text (each costs a second look).
_MAX_FAILURES = 16


class CallReader:
    """Split an answer into its content and its calls.

    A call is announced once its name is known, and its arguments come as the model writes them. One that
    turns out to be none (it ends early, its arguments are no JSON object) is text in the end, and not in
    `calls`.

    Args:
        marks: How the model writes calls.
        tools: Descriptions of the tools (OpenAI's form), for the types of arguments that are written without.

    """

    __slots__ = (
        "_after_call", "_calls", "_cursor", "_failures", "_finder", "_marks", "_section", "_space",
        "_starting",
    )  # fmt: skip

    def __init__(self, marks: CallFormat, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        self._marks = marks
        self._cursor = Cursor()
        self._calls = CallSink(tools or ())
        self._finder = finder_of(marks.marks)
        self._section: Reading | None = None
        self._starting = bool(marks.opens)
        self._after_call = False
        self._failures = 0
        self._space: list[str] = []  # white space at the end of the content so far: a call may follow

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that may follow while it is `idle`."""
        return self._marks.marks

    @property
    def idle(self) -> bool:
        """Whether text with no beginning of a mark and no white space at its end passes as it is."""
        waits = self._starting or self._after_call or self._space or self._section is not None
        return not waits and self._cursor.at == len(self._cursor.text)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls so far."""
        return tuple(self._calls.done)

    def feed(self, text: str, *, final: bool = False) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Take the next piece: the new content, and the new parts of calls.

        Args:
            text: Any number of characters.
            final: No text follows. White space at the end is dropped if there were calls.
        """
        cursor, calls = self._cursor, self._calls
        content: list[str] = []
        cursor.add(text, final=final)
        while self._section is not None or self._look(content):
            assert self._section is not None
            try:
                next(self._section)
                break
            except StopIteration as end:
                self._section = None
                self._end_section(content, found=end.value)
        if final:
            if not calls.done:
                content += self._space
            self._space.clear()
        if not calls.deltas:
            return "".join(content), ()
        deltas, calls.deltas = tuple(calls.deltas), []
        return "".join(content), deltas

    def _look(self, content: list[str]) -> bool:
        """Take text up to the next section; True if there is one."""
        cursor, mark = self._cursor, ""
        cursor.keep()
        if self._starting:
            first = cursor.after_space()
            if not first and not cursor.final:
                return False
            self._starting = False
            if not first or first not in self._marks.opens:
                return self._look(content)
        else:
            find = self._finder.find if self._failures < _MAX_FAILURES else finder_of(()).find
            end, mark = find(cursor.text, cursor.at, final=cursor.final)
            self._show(cursor.take(end - cursor.at), content)
            if not mark:
                return False
            cursor.keep()
            cursor.take(len(mark))
        self._section = read_section(cursor, self._marks, self._calls, mark)
        return True

    def _end_section(self, content: list[str], *, found: bool) -> None:
        self._cursor.go_back()  # to the end of the last call, or to the beginning of the section
        if found:
            self._after_call = True
        else:
            self._failures += 1
            self._show(self._cursor.take(1), content)

    def _show(self, text: str, content: list[str]) -> None:
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        if not text or text.isspace():
            if text:
                self._space.append(text)
            return
        shown = text.rstrip()
        content += self._space
        content.append(shown)
        self._space[:] = [text[len(shown) :]] if len(shown) < len(text) else []
