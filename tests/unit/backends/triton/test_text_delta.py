"""`TextDelta` returns each character of the answer once and none of the prompt, for every output style."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms.backends.triton.text_delta import OutputStyle, TextDelta

WORDS = ["The", " capital", " of", " France", " is", " Paris", "."]
PIECES = st.lists(st.text("ab \n你", max_size=4), max_size=12)


def read(style, responses, prompt=""):
    growth = TextDelta(style, prompt)
    return [*map(growth.feed, responses), growth.finish()]


def so_far(pieces):
    return list(itertools.accumulate(pieces))


@given(PIECES)
def test_deltas(pieces):
    assert "".join(read(OutputStyle(cumulative=False), pieces)) == "".join(pieces)


@given(PIECES)
def test_cumulative(pieces):
    assert "".join(read(OutputStyle(cumulative=True), so_far(pieces))) == "".join(pieces)


@given(PIECES, st.text("ab \n", min_size=1, max_size=6), st.booleans())
def test_echoed_prompt_is_removed(pieces, prompt, cumulative):
    echoed = [prompt, *pieces]
    responses = so_far(echoed) if cumulative else echoed
    style = OutputStyle(cumulative=cumulative, echo=True)
    assert "".join(read(style, responses, prompt)) == "".join(pieces)


@given(st.lists(st.integers(0, 40), max_size=6))
def test_echo_split_anywhere(cuts):
    prompt = "What is the capital of France?"
    text = prompt + "".join(WORDS)
    edges = sorted({0, len(text), *(cut for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)] if len(edges) > 1 else [text]
    assert "".join(read(OutputStyle(cumulative=False, echo=None), pieces, prompt)) == "".join(WORDS)


def test_answer_that_shares_a_prefix_with_the_prompt():
    for answer in ("What is", "What is it?", ""):
        pieces = [answer[:3], answer[3:]]
        assert (
            "".join(read(OutputStyle(cumulative=False, echo=None), pieces, "What is the capital?")) == answer
        )


@pytest.mark.parametrize("responses", [WORDS, so_far(WORDS)], ids=["deltas", "cumulative"])
def test_output_style_is_detected_once(responses):
    style = OutputStyle()
    assert "".join(read(style, responses)) == "".join(WORDS)
    assert style.cumulative is (responses is not WORDS)
    first = TextDelta(style)
    assert first.feed(responses[0]) == "The"
    assert first.feed(responses[1]) == " capital"  # no text is held back any more


@pytest.mark.parametrize(
    "pieces",
    [
        [" very"] * 5,
        ["a", "a", "a", "b"],
        ["\n", "\n\n", "\n\n\n", "x"],
        ["1", "1"],
        ["ha", "ha!"],
        ["x"],
        [],
    ],
    ids=repr,
)
def test_deltas_that_look_cumulative(pieces):
    assert "".join(read(OutputStyle(), pieces)) == "".join(pieces)


def test_repeated_long_responses():
    assert "".join(read(OutputStyle(), ["The capital", "The capital of France."])) == "The capital of France."


def test_split_character_is_completed_by_the_next_response():
    responses = ["你", "你\ufffd", "你\ufffd\ufffd", "你好", "你好！"]
    steps = read(OutputStyle(cumulative=True), responses)
    assert steps == ["你", "", "", "好", "！", ""]
    assert "".join(read(OutputStyle(), responses)) == "你好！"


def test_a_long_stream_of_deltas_costs_no_more_at_its_end():
    growth = TextDelta(OutputStyle())
    words = [f"t{n} " for n in range(100_000)]
    assert "".join(map(growth.feed, words)) == "".join(words)
    assert len(growth._seen) < 100
