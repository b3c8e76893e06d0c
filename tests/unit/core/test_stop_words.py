import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.core import stop_words
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
    """Return the length of the longest suffix of `text` that begins a stop word that can complete first."""
    return max(
        (
            n
            for word in words
            if character_by_character(words, word)[1] == word
            for n in range(1, len(word))
            if text.endswith(word[:n])
        ),
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
def test_exactly_what_may_become_a_stop_word_is_held_back(words, text):
    scanner = StopWordScanner(words)
    shown, fed = "", ""
    for char in text:
        fed += char
        shown += scanner.feed(char)
        if scanner.matched:
            break
        assert len(fed) - len(shown) == may_still_complete(words, fed)


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


def steps(run):
    """Count the lines of the module that `run` executes: work without a clock."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename != stop_words.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "words",
    [
        lambda n: ["b" + "a" * n],
        lambda n: ["a" * n + "b"],
        lambda n: ["ab" * (n // 2) + "c"],
        lambda n: [f"zz{i}q" for i in range(n // 6)],
        lambda n: [chr(0x4E00 + i) * 2 for i in range(n // 2)],
        lambda n: ["a" * i + "b" for i in range(1, int((2 * n) ** 0.5))],
    ],
)
def test_work_and_memory_grow_with_the_length_of_the_words(words):
    def cost(n):
        stop_words._cached_tables.cache_clear()
        tracemalloc.start()
        scanner = StopWordScanner(words(n))
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        del scanner
        return steps(lambda: stop_words._build_tables(tuple(words(n)))), memory

    (few, small), (many, large) = cost(4_000), cost(16_000)
    assert many < 5 * few
    assert large < 6 * small
    assert large < 500 * 16_000


@pytest.mark.parametrize("n", [1_000, 4_000])
def test_work_grows_with_the_text_even_when_much_is_held_back(n):
    def run():
        scanner = StopWordScanner(["a" * n + "b"])
        for _ in range(n):
            scanner.feed("a")
        for _ in range(100):
            assert len(scanner.feed("ac")) > 1
            scanner.feed("a" * (n - 300))
        for _ in range(1_000):
            scanner.feed("a")

    StopWordScanner(["a" * n + "b"])  # built before
    fed = n + 100 * (2 + n - 300) + 1_000
    assert steps(run) < 20 * fed


def test_the_kept_tables_are_bounded_by_the_size_of_the_words():
    stop_words._cached_tables.cache_clear()
    longest = stop_words._CACHE_LIMIT
    for i in range(6):
        StopWordScanner([f"{i}" * (longest // 4)])
        assert stop_words._cached_tables.cache_info().currsize <= 4
    StopWordScanner(["x" * (longest + 1)])
    StopWordScanner(["y" * (longest + 1)])
    assert stop_words._cached_tables.cache_info().currsize <= 4
    scanner = StopWordScanner(["y" * (longest + 1)])
    assert scanner.feed("ok" + "y" * (longest + 1)) == "ok"
