"""Control sequences of terminals are removed from text, wherever it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.control_sequences import ControlFilter

STRIPPED = {
    "clipboard": ("a\x1b]52;c;aGk=\x07b", "ab"),
    "clipboard, ended by ST": ("a\x1b]52;c;aGk=\x1b\\b", "ab"),
    "clipboard in 8 bits": ("a\x9d52;c;aGk=\x9cb", "ab"),
    "colour": ("a\x1b[1;31mred\x1b[0m b", "ared b"),
    "clear the screen": ("\x1b[2J\x1b[Ha", "a"),
    "private mode": ("\x1b[?1049ha", "a"),
    "CSI in 8 bits": ("\x9b31ma", "a"),
    "charset": ("\x1b(0a", "a"),
    "reset": ("\x1bca", "a"),
    "title": ("\x1b]0;title\x07a", "a"),
    "DCS": ("\x1bPq#0;2\x1b\\a", "a"),
    "APC": ("\x1b_Gf=24;AAAA\x1b\\a", "a"),
    "bell, backspace, carriage return": ("a\x07b\x08c\rd", "abcd"),
    "C1 codes": ("a\x84\x85\x8d\x9ab", "ab"),
    "delete": ("a\x7fb", "ab"),
    "a string without its end": ("a\x1b]52;c;aGk=\nb", "a\nb"),
    "parameters without their end": ("a\x1b[1;\nb", "a\nb"),
    "a sequence in a sequence": ("a\x1b[1\x1b]52;c;x\x07b", "ab"),
    "an escape at the end": ("a\x1b", "a"),
    "cancelled": ("a\x1b]52;\x18b", "ab"),
    "text": ("a\tb\nc \u4f60\U0001f600 [0m ]52;", "a\tb\nc \u4f60\U0001f600 [0m ]52;"),
    "text after parameters": ("\x1b[\u4f60", "\u4f60"),
}


@pytest.mark.parametrize(("text", "shown"), STRIPPED.values(), ids=STRIPPED)
def test_control_sequences_are_removed_wherever_they_are_cut(text, shown):
    assert ControlFilter().feed(text) == shown
    for cut in range(len(text) + 1):
        control = ControlFilter()
        assert control.feed(text[:cut]) + control.feed(text[cut:]) == shown
    control = ControlFilter()
    assert "".join(map(control.feed, text)) == shown


@given(st.lists(st.text("\x1b\x9b\x9d\x9c\x07\x18[]()?;m0aH\\\n\t\u4f60")))
def test_no_control_character_is_ever_shown(pieces):
    control = ControlFilter()
    shown = "".join(map(control.feed, pieces))
    assert shown == ControlFilter().feed("".join(pieces))
    assert not [char for char in shown if (char < " " or "\x7f" <= char <= "\x9f") and char not in "\n\t"]
    assert shown.count("\n") == "".join(pieces).count("\n")


@given(st.text())
def test_text_without_control_characters_stays(text):
    text = "".join(char for char in text if char.isprintable() or char in "\n\t")
    assert ControlFilter().feed(text) == text


# the command
