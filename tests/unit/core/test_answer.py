import pytest

from lagent_llms.core.answer import Answer
from lagent_llms.errors import ModelStatusCode, SessionOutOfLimit, StreamInterrupted
from lagent_llms.schema import Piece, StreamChunk, TokenLogprob, ToolCall, ToolCallDelta, Usage


def feed_all(answer, *pieces):
    return [chunk for piece in pieces if (chunk := answer.feed(piece)) is not None]


def test_chunks_unpack_to_status_text_and_token_count():
    answer = Answer()
    chunks = feed_all(answer, Piece("Hel", n_tokens=1), Piece("lo", n_tokens=2))
    assert [tuple(chunk) for chunk in chunks] == [
        (ModelStatusCode.STREAM_ING, "Hel", 1),
        (ModelStatusCode.STREAM_ING, "Hello", 2),
    ]
    status, text, _ = chunks[0]
    assert (status, text) == (1, "Hel")
    assert (chunks[1][1], chunks[1][:2], len(chunks[1])) == ("Hello", (1, "Hello"), 3)
    assert chunks[1].delta == "lo"
    assert chunks[1] == (1, "Hello", 2)
    assert isinstance(chunks[1], StreamChunk)


def test_an_early_chunk_keeps_its_own_text():
    answer = Answer()
    chunks = feed_all(answer, *(Piece(char) for char in "abc"))
    assert [chunk.text for chunk in reversed(chunks)] == ["abc", "ab", "a"]


def test_the_end_chunk_carries_the_completion():
    answer = Answer()
    feed_all(answer, Piece("Hello", token_ids=(1, 2)), Piece(finish_reason="length", usage=Usage(3, 2)))
    assert answer.done
    completion, end = answer.finish()
    assert (end.status, end.text, end.delta, end.finish_reason) == (
        ModelStatusCode.END,
        "Hello",
        "",
        "length",
    )
    assert end.completion is completion
    assert (completion.text, completion.token_ids, completion.usage.total_tokens) == ("Hello", (1, 2), 5)


def test_a_stop_word_ends_the_answer_and_is_not_part_of_it():
    answer = Answer(["END"])
    assert [chunk.delta for chunk in feed_all(answer, Piece("a E"), Piece("N"), Piece("D b"))] == ["a "]
    assert answer.done
    completion, _ = answer.finish()
    assert (completion.text, completion.finish_reason, completion.stop_word) == ("a ", "stop", "END")


def test_text_held_back_for_a_stop_word_is_released_at_the_end():
    answer = Answer(["END"])
    assert [chunk.text for chunk in feed_all(answer, Piece("a E"), Piece("", finish_reason="stop"))] == [
        "a ",
        "a E",
    ]
    completion, _ = answer.finish()
    assert (completion.text, completion.stop_word) == ("a E", None)


def test_an_answer_without_a_finish_reason_is_an_error():
    answer = Answer(["END"])
    feed_all(answer, Piece("a E"))
    with pytest.raises(StreamInterrupted):
        answer.finish()


def test_a_failure_as_status_releases_the_held_text():
    answer = Answer(["END"])
    feed_all(answer, Piece("a E", n_tokens=2))
    chunk = answer.fail(SessionOutOfLimit("full"))
    assert tuple(chunk) == (ModelStatusCode.SESSION_OUT_OF_LIMIT, "a E", 2)
    assert isinstance(chunk.error, SessionOutOfLimit)


def test_the_end_keeps_the_word_of_the_server():
    answer = Answer()
    feed_all(answer, Piece("a", finish_reason="stop", native_finish_reason="eos_token"))
    assert answer.finish()[0].native_finish_reason == "eos_token"


def test_logprobs_come_with_the_chunks_in_which_their_tokens_came():
    answer = Answer(["END"])
    items = [TokenLogprob(text, None, -0.1) for text in ("a", " E", "N", "!")]
    chunks = feed_all(
        answer, *(Piece(item.token, logprobs=(item,)) for item in items), Piece(finish_reason="stop")
    )
    assert [chunk.text for chunk in chunks] == ["a", "a ", "a EN!"]
    assert [chunk.logprobs for chunk in chunks] == [(items[0],), (items[1],), (items[2], items[3])]
    assert answer.finish()[1].logprobs == ()


def test_logprobs_reasoning_and_tool_calls_are_gathered():
    answer = Answer()
    call = ToolCall("search", {"q": "x"})
    feed_all(
        answer,
        Piece(reasoning="hm", logprobs=(TokenLogprob("a", 1, -0.1),)),
        Piece(reasoning="!", logprobs=(TokenLogprob("b", 2, -0.2),), tool_calls=(call,)),
        Piece(finish_reason="tool_calls"),
    )
    completion, _ = answer.finish()
    assert completion.reasoning == "hm!"
    assert [item.token for item in completion.logprobs] == ["a", "b"]
    assert completion.tool_calls == (call,)


def test_parts_of_calls_and_reasoning_of_a_server_come_in_chunks():
    answer = Answer(["END"])
    chunks = feed_all(
        answer,
        Piece(reasoning="hm"),
        Piece("a E"),
        Piece(tool_calls=(ToolCallDelta(0, "id1", "f", '{"x"'),)),
        Piece(tool_calls=(ToolCallDelta(0, arguments=": 1}"),)),
        Piece(tool_calls=(ToolCall("f", {"x": 1}, "id1"),), finish_reason="tool_calls"),
    )
    assert [(chunk.reasoning, chunk.delta, chunk.content) for chunk in chunks] == [
        ("hm", "", ""), ("", "a ", "a "), ("", "", ""), ("", "", ""), ("", "E", "E"),
    ]  # fmt: skip
    parts = [part for chunk in chunks for part in chunk.tool_calls]
    assert parts == [ToolCallDelta(0, "id1", "f", '{"x"'), ToolCallDelta(0, arguments=": 1}")]
    completion, end = answer.finish()
    assert (completion.tool_calls, completion.reasoning) == ((ToolCall("f", {"x": 1}, "id1"),), "hm")
    assert (completion.text, completion.content, completion.raw_text) == ("a E", "a E", "a E")
    assert (end.reasoning, end.content, end.tool_calls) == ("", "", ())


def test_calls_that_a_server_sends_whole_come_as_parts_as_well():
    answer = Answer()
    calls = (ToolCall("f", {"x": "é"}, "a"), ToolCall("g", {}))
    feed_all(answer, Piece(tool_calls=calls, finish_reason="tool_calls"))
    completion, end = answer.finish()
    assert completion.tool_calls == calls
    assert end.tool_calls == (ToolCallDelta(0, "a", "f", '{"x": "é"}'), ToolCallDelta(1, "", "g", "{}"))
