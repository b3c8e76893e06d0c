"""The conformance tests: a correct backend passes, and each fault fails the test of its requirement."""

import os
import subprocess
import sys

import pytest

from lagent_llms.testing.conformance.table import read_table, write_table

# A model with one token per character; its answer depends on the sum of the prompt's code points.
TOY = """
import asyncio, threading, time
import pytest
from lagent_llms import AsyncBaseLLM, BaseLLM, Piece, Usage
from lagent_llms.core.deadline import Deadline
from lagent_llms.core.llm import LLMCore
from lagent_llms.testing.conformance import Conformance, BackendUnderTest

FAULT = {fault!r}
RUNNING = []

class Source:
    ready = ()

    def __init__(self, request):
        self.request, self.n, self.deadline = request, 0, Deadline(request.options.timeout)
        number = sum(map(ord, request.prompt)) % 1000
        answer = "你好吗" if "你" in request.prompt else " ".join(map(str, range(number, number + 12)))
        self.text = answer + ("!" * 2000 if request.params.ignore_eos else "")
        RUNNING.append(self)

    def piece(self):
        self.deadline.wake()
        if self.deadline.remaining() == 0:
            raise self.deadline.exceeded()
        self.deadline.piece_arrived()
        self.n += 1
        limit = len(self.text) + 1 if FAULT == "no limit" else self.request.params.max_new_tokens
        usage = Usage(len(self.request.prompt), self.n)
        if self.n > len(self.text):
            return Piece(n_tokens=self.n, finish_reason="stop", usage=usage)
        text = self.text[self.n - 1]
        if FAULT == "half characters" and ord(text) > 127:
            text = "\\N{{REPLACEMENT CHARACTER}}"
        reason = "length" if self.n >= limit else None
        return Piece(text, n_tokens=self.n, finish_reason=reason, usage=usage)

    def __next__(self):
        time.sleep(0.0002)
        if self not in RUNNING:
            raise StopIteration
        return self.piece()

    def close(self):
        if FAULT != "runs on" and self in RUNNING:
            RUNNING.remove(self)

class AsyncToySource(Source):
    async def __anext__(self):
        await asyncio.sleep(0.0002)
        return self.piece()

class Core(LLMCore):
    unsupported_parameters = frozenset({{
        "min_p", "repetition_penalty", "seed", "logprobs", "response_format", "stream", "skip_special_tokens",
        "adapter_name", "tool_choice",
    }} - ({{"seed"}} if FAULT == "drops the seed" else set()))

class Toy(Core, BaseLLM):
    def _open(self, request):
        return Source(request)

    def _tokenize(self, text):
        return list(map(ord, text))

class AsyncToy(Core, AsyncBaseLLM):
    async def _open(self, request):
        return AsyncToySource(request)

    async def _tokenize(self, text):
        return list(map(ord, text))

class ToyUnderTest(BackendUnderTest):
    name = "Toy"
    patience = 0.5
    defaults = {{"meta_template": "chatml"}}

    def make(self, asynchronous, **kwargs):
        return (AsyncToy if asynchronous else Toy)(**kwargs)

    def running(self):
        return len(RUNNING)

class TestToy(Conformance):
    @pytest.fixture
    def subject(self):
        RUNNING.clear()
        return ToyUnderTest()
"""


def run_toy(fault, selection, folder):
    """Run the conformance tests on the toy backend; return broken requirements and all outcomes."""
    (folder / "test_toy.py").write_text(TOY.format(fault=fault), encoding="utf-8")
    table = folder / "promises.md"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "lagent_llms.testing.conformance.table"]
    command += ["--promises", str(table), "-k", selection, "test_toy.py"]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the import of unused plugins takes long
    done = subprocess.run(command, cwd=folder, env=alone, capture_output=True, text=True, check=False)
    outcomes = read_table(table.read_text(encoding="utf-8"))
    broken = {requirement for requirement, row in outcomes.items() if row["Toy"] == "BROKEN"}
    assert (done.returncode == 0) is not bool(broken), done.stdout
    return broken, outcomes


@pytest.mark.parametrize(
    ("fault", "selection", "expected"),
    [
        ("no limit", "max_new_tokens or greedy", {"max_new_tokens is exact"}),
        ("half characters", "characters or tuples", {"no chunk holds half a character"}),
        ("runs on", "leaving or closing", {"leaving a stream stops the generation"}),
        ("drops the seed", "seed or greedy", {"seed makes sampling repeatable"}),
    ],
)
def test_each_fault_is_found(fault, selection, expected, tmp_path):
    broken, outcomes = run_toy(fault, selection, tmp_path)
    assert broken == expected
    assert len(outcomes) == 2  # the other requirement is kept


def test_a_correct_backend_passes(tmp_path):
    broken, outcomes = run_toy("", "test", tmp_path)
    assert not broken
    assert len(outcomes) > 30
    assert outcomes["seed makes sampling repeatable"]["Toy"] == "refused"


def test_a_table_is_equal_after_writing_and_reading():
    table = {"one": {"A": "kept", "B": "refused"}, "two": {"A": "BROKEN", "B": ""}}
    assert read_table(write_table(table)) == table
    assert read_table("") == {}
