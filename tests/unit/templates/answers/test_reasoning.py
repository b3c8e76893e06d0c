"""Reasoning is split off an answer, however it is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagent_llms.templates.answers.formats import ReasoningFormat, reasoning_in
from lagent_llms.templates.answers.reasoning import ReasoningSplitter

THINK = ReasoningFormat("<think>", "</think>")
HARMONY = reasoning_in("<|channel|>analysis<|message|> <|end|>")
COHERE = reasoning_in("<|START_THINKING|> <|END_THINKING|>")
assert HARMONY is not None
assert COHERE is not None


def split(marks: ReasoningFormat, pieces, inside: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(marks, inside=inside)
    found = [splitter.feed(piece) for piece in pieces] + [splitter.feed("", final=True)]
    return "".join(reasoning for reasoning, _ in found), "".join(text for _, text in found)


FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("marks", "inside", "answer", "reasoning", "text"),
    [
        (THINK, False, "<think>\n2 + 2\nis 4\n</think>\n\nFour.\n", "2 + 2\nis 4", "Four.\n"),
        (THINK, False, "<think>\n\n</think>\n\nFour.", "", "Four."),
        (THINK, False, "\n<think>a</think>b", "a", "b"),
        (THINK, False, "Four. <think>no</think>", "", "Four. <think>no</think>"),
        (THINK, False, "<think>a</think>b</think><think>c", "a", "b</think><think>c"),
        (THINK, False, "<thin", "", "<thin"),
        (THINK, False, "<think>unfinished </th", "unfinished </th", ""),
        (THINK, True, "hm\n</think>\nFour.", "hm", "Four."),
        (THINK, True, "<think>\nhm</think>Four.", "hm", "Four."),
        (THINK, True, "hm, no end\n", "hm, no end", ""),
        (HARMONY, False, f"<|channel|>analysis<|message|>hm<|end|>{FINAL}Four.<|return|>", "hm", "Four."),
        (HARMONY, False, "<|channel|>final<|message|>Four.", "", "Four."),
        (HARMONY, False, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary "
         "to=functions.f <|constrain|>json<|message|>{}<|call|>", "hm",
         "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>"),
        (COHERE, False, "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Four.<|END_RESPONSE|>", "hm",
         "Four."),
    ],
)  # fmt: skip
def test_answers(marks: ReasoningFormat, inside: bool, answer: str, reasoning: str, text: str) -> None:
    assert split(marks, [answer], inside) == (reasoning, text)
    assert split(marks, answer, inside) == (reasoning, text)


def test_a_part_of_a_mark_is_held_back_and_the_rest_comes_at_once() -> None:
    splitter = ReasoningSplitter(THINK)
    given = ["<th", "ink>a", "b\n", "</", "think", ">\n", "\nc", "d"]
    assert [splitter.feed(piece) for piece in given] == [
        ("", ""), ("a", ""), ("b", ""), ("", ""), ("", ""), ("", ""), ("", "c"), ("", "d"),
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([THINK, HARMONY, COHERE]),
    st.booleans(),
    st.lists(
        st.sampled_from(["<think>", "</think>", "<", "</th", "\n", " ", "a", "<|end|>", FINAL, "<|start|>",
                         "<|channel|>analysis<|message|>", "<|START_THINKING|>", "<|END_THINKING|>"]),
        max_size=20,
    ),
    st.data(),
)  # fmt: skip
def test_cuts_change_nothing(
    marks: ReasoningFormat, inside: bool, parts: list[str], data: st.DataObject
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(marks, [text], inside) == split(marks, pieces, inside) == split(marks, text, inside)
