import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.core.stop_words import StopWordScanner

WORDS = st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=5)
TEXT = st.text("ab<|你", max_size=40)


def character_by_character(words, text):
    """The definition: the word completed first ends the text; of two completed together, the longer one."""
    for end in range(1, len(text) + 1):
        complete = [word for word in words if text[:end].endswith(word)]
        if complete:
            word = max(complete, key=len)
            return text[: end - len(word)], word
    return text, None


def may_still_complete(words, text):
    """Return the longest suffix of `text` that begins a stop word which may still be completed first."""
    return max(
        (n for word in words for n in range(1, len(word)) if text.endswith(word[:n])),
        default=0,
    )


@given(WORDS, TEXT, st.data())
def test_the_result_equals_a_scan_by_characters(words, text, data):
    scanner = StopWordScanner(words)
    shown, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown += scanner.feed(rest[:size])
        rest = rest[size:]
    shown += scanner.flush()
    assert (shown, scanner.matched) == character_by_character(words, text)


@given(WORDS, TEXT)
def test_only_text_that_may_become_a_stop_word_is_held_back(words, text):
    scanner = StopWordScanner(words)
    shown, fed = "", ""
    for char in text:
        fed += char
        shown += scanner.feed(char)
        if scanner.matched:
            break
        assert len(fed) - len(shown) <= may_still_complete(words, fed)


@given(WORDS, TEXT)
def test_the_beginning_of_a_stop_word_is_never_emitted(words, text):
    final, _ = character_by_character(words, text)
    scanner = StopWordScanner(words)
    shown = ""
    for char in text:
        shown += scanner.feed(char)
        assert final.startswith(shown)


def test_a_stop_word_split_over_pieces():
    scanner = StopWordScanner(["<|im_end|>"])
    assert [scanner.feed(piece) for piece in ("Hello", " wor<|im", "_en", "d|>", "gone")] == [
        "Hello",
        " wor",
        "",
        "",
        "",
    ]
    assert scanner.matched == "<|im_end|>"
    assert scanner.flush() == ""


def test_text_that_only_began_like_a_stop_word_is_released():
    scanner = StopWordScanner(["<|im_end|>"])
    assert scanner.feed("a <|im") == "a "
    assert scanner.feed("age") == "<|image"
    assert scanner.feed(" <") == " "
    assert scanner.flush() == "<"


def test_no_stop_words_pass_everything_through():
    scanner = StopWordScanner()
    assert scanner.feed("a<|im_end|>") == "a<|im_end|>"
    assert scanner.matched is None


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["ab", "xaby"], "xaby", ("x", "ab")),
        (["b", "ab"], "xab", ("x", "ab")),
        (["ab", "abc"], "abc", ("", "ab")),
        (["。"], "你好。再见", ("你好", "。")),
    ],
)
def test_words_inside_words(words, text, expected):
    scanner = StopWordScanner(words)
    assert (scanner.feed(text), scanner.matched) == expected
