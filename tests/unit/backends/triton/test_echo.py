"""A prompt before the answer is removed as the server's detokenizer writes it, or the text is refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lagent_llms import ConfigError
from lagent_llms.backends.triton.text_delta import OutputStyle, TextDelta

PROMPT = (
    "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi, 你好 <b>?<|im_end|>\n"
    "<|im_start|>assistant\n"
)
ECHOES = {
    "as sent": PROMPT,
    "BOS": f"<s>{PROMPT}",
    "two BOS": f"<s><s> {PROMPT}",
    "spaces at special tokens": PROMPT.replace("<|", " <|").replace("|>", "|> "),
    "no spaces": PROMPT.replace(" ", "").replace("\n", ""),
    "special tokens dropped": PROMPT.replace("<|im_start|>", "").replace("<|im_end|>", ""),
    "some special tokens dropped": PROMPT.replace("<|im_end|>", ""),
    "stripped": PROMPT.strip(),
    "a space before": f" {PROMPT}",
}


def read(pieces, prompt=PROMPT, echo=None, cumulative=False):
    delta = TextDelta(OutputStyle(cumulative=cumulative, echo=echo), prompt)
    if cumulative:
        pieces = list(itertools.accumulate(pieces))
    return "".join([*map(delta.feed, pieces), delta.finish()])


@pytest.mark.parametrize("cumulative", [True, False])
@pytest.mark.parametrize("echo", [True, None])
@pytest.mark.parametrize("echoed", ECHOES.values(), ids=ECHOES)
@given(cuts=st.lists(st.integers(0, 200), max_size=9))
def test_the_prompt_is_removed(echoed, echo, cumulative, cuts):
    text = f"{echoed}The answer\n is 4. <|im_end|>"
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
    assert read(pieces, echo=echo, cumulative=cumulative) == "The answer\n is 4. <|im_end|>"


@pytest.mark.parametrize("echo", [True, None])
@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Hello",
        "<",
        "<|im",
        "<|action_start|><|plugin|>{}",
        "<think>\nHm",
        "<s>",
        " \n",
        "system",
        "[INST",
    ],
)
def test_an_answer_without_the_prompt_is_kept(answer, echo):
    assert read(list(answer), echo=echo) == answer
    assert read([answer], echo=echo) == answer


def test_an_answer_that_quotes_the_prompt_is_kept():
    prompt, answer = "What is the capital of France?", "What is the capital of Spain? Madrid."
    assert read(list(answer), prompt) == answer
    assert read(["Hi  there"], "Hi \n") == "Hi  there"


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        ("<s>" + PROMPT.replace("你好", "[UNK]") + "The answer", None),
        (PROMPT.replace("Hi", "hi").replace("<|im_start|>", "") + "The answer", True),
        (PROMPT[:60], True),
    ],
)
def test_a_text_that_differs_within_the_prompt_is_refused(text, echo):
    with pytest.raises(ConfigError, match="echo=False"):
        read(list(text), echo=echo)
    assert read([text], echo=False) == text


@given(st.text("ab <|s>[]/\n", max_size=30), st.text("ab <|s>[]/\n", max_size=30))
def test_any_text_is_read(prompt, text):
    pieces = read(list(text), prompt)
    assert text.endswith(pieces)
