"""Answers in OpenAI's form are JSON, whatever a backend says."""

import json

import pytest

from lagent_llms import Completion, ModelStatusCode, StreamChunk
from lagent_llms.schema import TextBuffer, TokenLogprob
from lagent_llms.serving.openai.answers import chat_answer, chat_chunks, completion_answer, completion_chunks

NEVER, ODD = float("-inf"), float("nan")
LOGPROBS = (TokenLogprob("a", 1, NEVER, (("a", 1, NEVER), ("b", 2, ODD), ("c", 3, -0.5))),)
WHOLE = Completion("a", "stop", logprobs=LOGPROBS)
STEP = StreamChunk(ModelStatusCode.STREAM_ING, "a", 1, TextBuffer(), 0, logprobs=LOGPROBS)


@pytest.mark.parametrize(
    "item",
    [
        chat_answer({}, WHOLE),
        completion_answer({}, [WHOLE]),
        *chat_chunks({}, STEP, first=False),
        *completion_chunks({}, STEP, first=True),
    ],
    ids=lambda item: item["object"],
)
def test_a_token_without_any_probability(item):
    text = json.dumps(item, allow_nan=False)  # no -Infinity, which is no JSON
    assert text.count("-9999.0") == 3
    assert text.count("-0.5") == 1
