"""Response objects in OpenAI's format are valid JSON for every log-probability."""

import json

import pytest

from lagent_llms import Completion, ModelStatusCode, StreamChunk
from lagent_llms.schema import TextBuffer, TokenLogprob
from lagent_llms.serving.openai.responses import (
    chat_chunks,
    chat_response,
    completion_chunks,
    completion_response,
)

MINUS_INFINITY, NAN = float("-inf"), float("nan")
LOGPROBS = (TokenLogprob("a", 1, MINUS_INFINITY, (("a", 1, MINUS_INFINITY), ("b", 2, NAN), ("c", 3, -0.5))),)
COMPLETION = Completion("a", "stop", logprobs=LOGPROBS)
CHUNK = StreamChunk(ModelStatusCode.STREAM_ING, "a", 1, TextBuffer(), 0, logprobs=LOGPROBS)


@pytest.mark.parametrize(
    "item",
    [
        chat_response({}, COMPLETION),
        completion_response({}, [COMPLETION]),
        *chat_chunks({}, CHUNK, first=False),
        *completion_chunks({}, CHUNK, first=True),
    ],
    ids=lambda item: item["object"],
)
def test_a_token_of_probability_zero(item):
    text = json.dumps(item, allow_nan=False)  # -Infinity is not valid JSON
    assert text.count("-9999.0") == 3
    assert text.count("-0.5") == 1
