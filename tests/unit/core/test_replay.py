"""Answers that are shown again."""

import asyncio

import pytest

from lagent_llms import (
    Completion,
    ModelStatusCode,
    Piece,
    ServerError,
    StreamInterrupted,
    TokenLogprob,
    Usage,
)
from lagent_llms.core.replay import RecordedAnswer, ReplayedAnswer
from lagent_llms.schema import ToolCallDelta
from lagent_llms.store.answers import Step, StoredAnswer, completion_fields, pack, unpack

LOGPROBS = tuple(TokenLogprob(text, None, -1.0) for text in "abc")
PIECES = [
    Piece(reasoning="hm", n_tokens=1),
    Piece("a", n_tokens=2, logprobs=LOGPROBS[:1]),
    Piece("b", n_tokens=3, logprobs=LOGPROBS[1:2]),
    Piece(tool_calls=(ToolCallDelta(0, "id", "f", "{}"),)),
    Piece("cEN", n_tokens=4),
    Piece("D", finish_reason="stop", usage=Usage(1, 4), logprobs=LOGPROBS[2:]),
]


def recorded():
    answer = RecordedAnswer(["END"])
    for piece in PIECES:
        answer.feed(piece)
        if answer.done:
            break
    completion, _ = answer.finish()
    return answer, completion


def fields(chunk):
    return {
        name: getattr(chunk, name)
        for name in (
            "status", "delta", "text", "content", "reasoning", "tool_calls", "n_tokens", "finish_reason",
            "usage", "logprobs", "completion",
        )
    }  # fmt: skip


def shown(source):
    """What a caller sees of a replayed answer, and its completion."""
    while not source.done:
        source.feed(next(source))
    completion, _ = source.finish()
    return source.chunks, completion


def test_every_chunk_is_shown_again():
    answer, completion = recorded()
    stored = unpack(pack([Step.of(chunk) for chunk in answer.chunks], completion_fields(completion)))
    chunks, again = shown(ReplayedAnswer(stored, cached=True))
    assert again == completion
    assert again.cached
    assert [*map(fields, chunks)] == [*map(fields, answer.chunks)]
    assert [type(chunk) for chunk in chunks] == [type(chunk) for chunk in answer.chunks]
    assert chunks[-1].status is ModelStatusCode.END


def test_an_empty_answer():
    chunks, completion = shown(ReplayedAnswer(StoredAnswer((Step(""),), Completion("", "stop"))))
    assert len(chunks) == 1
    assert completion.text == ""
    assert not completion.cached


@pytest.mark.parametrize("error", [None, ServerError("no", status_code=500)])
def test_an_interrupted_answer_ends_with_its_error(error):
    source = ReplayedAnswer(StoredAnswer((Step("he", 1), Step("llo", 2))), error=error)
    texts = [source.feed(asyncio.run(source.__anext__())).text for _ in range(2)]
    assert texts == ["he", "hello"]
    with pytest.raises(StreamInterrupted if error is None else ServerError):
        next(source)
