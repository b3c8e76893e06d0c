import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.core.stop_words import StopWordScanner

WORDS = st.lists(st.text("ab<|", min_size=1, max_size=5), max_size=5)
TEXT = st.text("ab<|你", max_size=40)


def character_by_character(words, text):
    """The definition: the first word to be complete ends the text; of two that end together, the longer."""
    for end in range(1, len(text) + 1):
        complete = [word for word in words if text[:end].endswith(word)]
        if complete:
            word = max(complete, key=len)
            return text[: end - len(word)], word
    return text, None


def may_still_complete(words, text):
    """The longest end of `text` that begins a stop word which can still be the first to be complete."""
    return max(
        (n for word in words for n in range(1, len(word)) if text.endswith(word[:n])),
        default=0,
    )


@given(WORDS, TEXT, st.data())
def test_outcome_is_that_of_one_character_at_a_time(words, text, data):
    scanner = StopWordScanner(words)
    shown, rest = "", text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        shown += scanner.feed(rest[:size])
        rest = rest[size:]
    shown += scanner.flush()
    assert (shown, scanner.matched) == character_by_character(words, text)


@given(WORDS, TEXT)
def test_holds_back_no_more_than_could_become_a_stop_word(words, text):
    scanner = StopWordScanner(words)
    shown, fed = "", ""
    for char in text:
        fed += char
        shown += scanner.feed(char)
        if scanner.matched:
            break
        assert len(fed) - len(shown) <= may_still_complete(words, fed)


@given(WORDS, TEXT)
def test_never_shows_the_beginning_of_what_becomes_a_stop_word(words, text):
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


def test_what_looked_like_a_stop_word_is_given_back():
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
