"""Conformance tests: cached answers, and recorded calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...core.usage import UsageTotals
from ...errors import LLMError
from ..replay import ReplayLLM
from .requirement import ConformanceTests, requirement

__all__ = ["Keeping"]


class Keeping(ConformanceTests):
    """What a backend keeps of its calls."""

    @requirement("a cached answer equals the first one, as a stream and from the other class too")
    def test_cached_answers(self, tmp_path: Path) -> None:
        llm, question = self.make(cache=tmp_path), self.subject.question
        chunks = llm.chunks("stream_chat", question)
        llm.llm.cache.flush()
        assert llm.chunks("stream_chat", question) == chunks
        first = chunks[-1].completion
        again = self.make_twin(cache=tmp_path).complete(question)
        assert again == first
        assert first is not None
        assert (first.cached, again.cached) == (False, True)
        assert (llm.llm.cache.hits, llm.llm.cache.misses) == (1, 1)

    @requirement("llm.usage counts calls, tokens and errors")
    def test_usage(self) -> None:
        llm, question = self.make(), self.subject.question
        used = llm.complete(question).usage
        llm.chunks("stream_chat", question)
        usage = llm.llm.usage
        assert usage.totals() == sum(usage.models().values(), UsageTotals())
        assert usage.prompt_tokens == 2 * used.prompt_tokens
        assert usage.completion_tokens == 2 * used.completion_tokens
        with pytest.raises(LLMError):
            llm.chat(question, timeout=1e-6, retry={"max_retries": 0})
        answered, failed = usage.calls - usage.errors, usage.errors
        assert (answered, usage.cached_answers) == (2, 0)
        assert failed >= 1
        assert (failed, usage.retries) == (1, 0) or llm.llm.retries_in_members  # each member that failed
        assert usage.reset().calls == answered + failed
        assert usage.totals() == UsageTotals()

    @requirement("a sampled answer is not cached")
    def test_sampled_answers(self, tmp_path: Path) -> None:
        llm = self.make(cache=tmp_path, temperature=0.8, top_k=None, max_new_tokens=4)
        for _ in range(2):
            assert not llm.complete(self.subject.question).cached

    @requirement("a journal has every call; played back, the answer is the same")
    def test_recorded_calls(self, tmp_path: Path) -> None:
        file = tmp_path / "calls.sqlite"
        llm, question = self.make(journal=file), self.subject.question
        answer = llm.complete(question)
        llm.shut()
        with ReplayLLM(file) as replay:
            assert replay.complete(question) == answer
