"""Remove the control sequences of terminals from text. Pure."""

from __future__ import annotations

import re

__all__ = ["ControlFilter"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ControlFilter:
    """Removes the control sequences of terminals from text that arrives in pieces.

    Whole sequences are removed (colours, cursor movements, window titles, the clipboard: CSI, OSC, DCS and
    others, in 7 and in 8 bits), and all single control characters except newline and tab. A sequence without
    its end is removed up to the end of its line.
    """

    def __init__(self) -> None:
        self._state = "text"

    def feed(self, text: str) -> str:
        """Take the next piece of text, and return what of it can be shown."""
        if self._state == "text" and not _CONTROL.search(text):
            return text
        return "".join(filter(self._shown, text))

    def _shown(self, char: str) -> bool:
        """Take the next character; True if it is text."""
        state, self._state = self._state, "text"
        if char in "\n\x18\x1a":  # they end every sequence
            return char == "\n"
        if char == "\x1b":
            self._state = "escape"
        elif char == "\x9b":
            self._state = "parameters"
        elif char in "\x90\x98\x9d\x9e\x9f":
            self._state = "string"
        elif state == "string":
            if char not in "\x07\x9c":
                self._state = "string"
        elif state == "escape" and char == "[":
            self._state = "parameters"
        elif state == "escape" and char in "]PX^_":
            self._state = "string"
        elif state in ("escape", "intermediates") and "\x20" <= char <= "\x7e":
            self._state = "intermediates" if char <= "\x2f" else "text"
        elif state == "parameters" and "\x20" <= char <= "\x7e":
            self._state = "parameters" if char <= "\x3f" else "text"
        else:
            return _CONTROL.match(char) is None
        return False
