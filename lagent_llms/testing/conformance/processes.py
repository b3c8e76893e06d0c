"""Conformance tests of other processes: forks, pickles and copies."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import pickle
import signal
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from ...errors import ModelStatusCode
from .backend import user
from .calling import CALL_TIMEOUT, Caller
from .requirement import ConformanceTests, requirement

__all__ = ["Processes"]

WORKERS = 8
QUESTIONS = [user(f"Count from {number} to {number + 9}.") for number in range(5)]


class Processes(ConformanceTests):
    """Tests of objects that another process uses too. A model `in_process` passes by a clear refusal."""

    @requirement("forked processes that share an object get their own answers, and so does their parent")
    def test_forks(self) -> None:
        llm = self.make(max_new_tokens=6)
        expected = [llm.chat(question) for question in QUESTIONS]
        if self._in_process(llm):
            refusal = _in_child(lambda: _ask(llm, QUESTIONS[0]))()
            assert "forked" in refusal, refusal
            return

        def work(worker: int) -> list[str]:
            order = QUESTIONS[worker % len(QUESTIONS) :] + QUESTIONS[: worker % len(QUESTIONS)]
            answers = [_ask(llm, question) for question in order]
            return answers[-worker % len(QUESTIONS) :] + answers[: -worker % len(QUESTIONS)]

        children = [_in_child(lambda worker=worker: work(worker)) for worker in range(WORKERS)]  # type: ignore[misc]
        assert [child() for child in children] == [expected] * WORKERS
        assert llm.chat(QUESTIONS[0]) == expected[0]

    @requirement("a forked process neither reads nor ends a stream of its parent")
    def test_streams(self) -> None:
        llm = self.make()
        if llm.asynchronous and not self.subject.async_streams_fork:
            self.outcome = "not seen"
            return
        expected = llm.chat(self.subject.long_question)
        stream = llm.llm.stream_chat(self.subject.long_question)
        chunk = llm.step(stream)

        def use() -> Any:
            try:
                return str(asyncio.run(stream.__anext__()) if llm.asynchronous else next(stream))
            finally:
                stream.close()

        refusal = _in_child(use)()
        assert "forked" in refusal, refusal
        while chunk.status == ModelStatusCode.STREAM_ING:
            chunk = llm.step(stream)
        assert chunk.text == expected

    @requirement("pickles and copies of an object are new ones with the same configuration")
    @pytest.mark.parametrize("way", ["pickle", "deepcopy"])
    def test_copies(self, way: str) -> None:
        llm = self.make(max_new_tokens=6)
        ways: dict[str, Callable[[Any], Any]] = {
            "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
            "deepcopy": copy.deepcopy,
        }
        if self._in_process(llm):
            with pytest.raises(TypeError, match="runs in this process"):
                ways[way](llm.llm)
            return
        again = Caller(ways[way](llm.llm))
        try:
            assert again.chat(QUESTIONS[0]) == llm.chat(QUESTIONS[0])
        finally:
            again.close()
        assert llm.chat(QUESTIONS[1])

    def _in_process(self, llm: Caller) -> bool:
        if llm.llm.in_process:
            self.outcome = "refused"
        return bool(llm.llm.in_process)


def _ask(llm: Caller, question: Any) -> Any:
    """Ask from a forked child, in which the loop of `llm` does not run."""
    answer = llm.llm.chat(question)
    return asyncio.run(answer) if llm.asynchronous else answer


def _in_child(work: Callable[[], Any]) -> Callable[[], Any]:
    """Fork a child that runs `work`.

    Returns:
        A function that waits for the child and returns the result of `work`, or the text of its error.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and JAX warn of forks of a process with threads
        pid = os.fork()
    if not pid:
        try:
            signal.alarm(CALL_TIMEOUT)
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  (reported to the parent)
                result = f"{type(error).__name__}: {error}"
            os.write(writing, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writing)

    def wait() -> Any:
        with open(reading, "rb") as pipe:
            result = pipe.read()
        _, status = os.waitpid(pid, 0)
        return json.loads(result) if result else f"the child ended with status {status}"

    return wait
