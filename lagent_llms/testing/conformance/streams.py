"""Conformance tests of streams and stop words."""

from __future__ import annotations

import pickle
from itertools import pairwise

import pytest

from ...errors import LLMError, ModelStatusCode, TimeoutExceeded
from .calling import Caller
from .requirement import ConformanceTests, requirement

__all__ = ["StopWords", "Streams"]


class Streams(ConformanceTests):
    """Tests of streamed answers."""

    @requirement("the chunks of a stream add up to the answer")
    @pytest.mark.parametrize("which", ["question", "long_question", "multibyte_question"])
    def test_sum(self, which: str) -> None:
        messages = getattr(self.subject, which)
        llm = self.make(max_new_tokens=300)
        chunks = llm.chunks("stream_chat", messages)
        assert {chunk.status for chunk in chunks[:-1]} <= {ModelStatusCode.STREAM_ING}
        last = chunks[-1]
        assert (last.status, last.finish_reason) == (ModelStatusCode.END, "stop")
        assert "".join(chunk.delta for chunk in chunks) == last.text == llm.chat(messages)
        assert last.usage is not None
        assert last.usage.completion_tokens == last.n_tokens

    @requirement("a chunk unpacks to status, text so far and tokens, and the text only grows")
    def test_tuples(self) -> None:
        chunks = [tuple(chunk) for chunk in self.make().chunks("stream_chat", self.subject.long_question)]
        assert len(chunks) > 1
        texts = [text for _, text, _ in chunks]
        assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
        counts = [n for _, _, n in chunks if n is not None]
        assert counts == sorted(counts)

    @requirement("no chunk holds half a character")
    def test_characters(self) -> None:
        for _, text, _ in self.make().chunks("stream_chat", self.subject.multibyte_question):
            assert "\N{REPLACEMENT CHARACTER}" not in text

    @requirement("stream_generate and stream_text yield the same text as stream_chat")
    def test_other_streams(self) -> None:
        llm = self.make()
        question, prompt = self.subject.question, self.prompt(llm.llm)
        words = llm.llm.template.stop_words if llm.llm.template else ()
        with llm.stream("stream_text", question) as deltas:
            assert "".join(deltas) == llm.chat(question)
        assert llm.chunks("stream_generate", prompt, stop_words=words)[-1].text == llm.generate(
            prompt, stop_words=words
        )

    @requirement("leaving a stream stops the generation")
    def test_leaving(self) -> None:
        llm = self._endless()
        with llm.stream("stream_chat", self.subject.long_question) as stream:
            next(iter(stream))
            assert self.something_runs()
        assert self.nothing_runs()

    @requirement("dropping the last reference to a stream stops the generation")
    def test_forgetting(self) -> None:
        self._endless().forget_stream(self.subject.long_question)
        assert self.nothing_runs()

    @requirement("cancelling a pending read of a stream stops the generation")
    def test_cancelling(self) -> None:
        llm = self._endless()
        expected = llm.chat(self.subject.question, max_new_tokens=8)
        llm.give_up_waiting(self.subject.long_question)
        assert self.nothing_runs()
        assert llm.chat(self.subject.question, max_new_tokens=8) == expected

    @requirement("timeouts apply to streams and stop the generation; their errors pickle")
    def test_timeouts(self) -> None:
        llm = self.make()
        with pytest.raises(TimeoutExceeded) as caught:
            llm.chunks("stream_chat", self.subject.long_question, timeout=1e-6)
        phase = caught.value.phase
        assert phase in ("first_token", "idle")  # of an engine in this process, a token may be there already
        again = pickle.loads(pickle.dumps(caught.value))
        assert (type(again), str(again), again.phase) == (TimeoutExceeded, str(caught.value), phase)
        assert self.nothing_runs()

    @requirement("on_error='status' ends a stream with a negative status")
    def test_status(self) -> None:
        llm = self.make()
        chunks = llm.chunks("stream_chat", self.subject.long_question, timeout=1e-6, on_error="status")
        *before, (status, text, _) = chunks
        assert status < 0
        assert status == ModelStatusCode.SERVER_ERR
        assert text == (before[-1][1] if before else "")  # a token may be there before the limit is looked at

    @requirement("a closed object refuses calls; closing twice is no error")
    def test_closing(self) -> None:
        llm = self.make()
        llm.chat(self.subject.question)
        llm.shut()
        llm.shut()
        with pytest.raises(LLMError, match="closed"):
            llm.chat(self.subject.question)

    def _endless(self) -> Caller:
        if self.honours("ignore_eos"):
            return self.make(max_new_tokens=500, ignore_eos=True)
        return self.make(max_new_tokens=500)


class StopWords(ConformanceTests):
    """Tests of stop words, however an answer is split into chunks."""

    @requirement("no chunk holds a stop word or the beginning of one; the answer reports the stop word")
    def test_never_shown(self) -> None:
        llm = self.make()
        text = llm.chat(self.subject.question)
        assert len(text) > 12
        for start, end in ((len(text) // 2, len(text) - 1), (3, 9), (len(text) - 1, len(text)), (5, 6)):
            word = text[start:end]
            expected = text.split(word)[0]
            answer = llm.complete(self.subject.question, stop_words=[word])
            assert (answer.text, answer.finish_reason, answer.stop_word) == (expected, "stop", word)
            for _, shown, _ in llm.chunks("stream_chat", self.subject.question, stop_words=[word]):
                assert expected.startswith(shown)

    @requirement("the earliest of many stop words ends the answer")
    def test_many(self) -> None:
        llm = self.make()
        text = llm.chat(self.subject.question)
        words = [text[n : n + 4] for n in range(len(text) - 4, 3, -1)][:10]
        expected = text[: min(text.index(word) for word in words)]
        assert llm.chat(self.subject.question, stop_words=words) == expected

    @requirement("text that only begins like a stop word is kept")
    def test_flushed(self) -> None:
        llm = self.make()
        text = llm.chat(self.subject.question)
        assert llm.chat(self.subject.question, stop_words=[f"{text[-4:]}\N{BELL}"]) == text

    @requirement("a stop word stops the generation")
    def test_stops(self) -> None:
        llm = self.make(max_new_tokens=1000, ignore_eos=self.honours("ignore_eos"))
        text = llm.chat(self.subject.long_question, max_new_tokens=24)
        word = text[len(text) // 2 : len(text) // 2 + 3]
        assert llm.chat(self.subject.long_question, stop_words=[word]) == text.split(word)[0]
        assert self.nothing_runs()
