"""The limits on an engine's silence run only while the engine works on the request."""

import asyncio
import threading
from functools import partial

import pytest

from lagent_llms import Piece, Timeout, TimeoutExceeded
from lagent_llms.core.callbacks import AsyncCallbackSource, CallbackSource
from lagent_llms.testing import ScriptedLLM

LIMIT = 0.05


class Engine:
    """An engine whose events a test emits."""

    def __init__(self):
        self.submitted = threading.Event()

    def __repr__(self):
        return "Engine('x')"

    def submit(self, request, on_event, on_wait):
        self.emit, self.wait = on_event, on_wait
        self.submitted.set()
        return self, self

    def cancel(self):
        pass

    def piece(self, event):
        return event

    def request(self, **limits):
        return ScriptedLLM().prepare("x", {"timeout": Timeout(**limits)}).request


@pytest.fixture(params=["sync", "async"])
def read(request):
    """Read the next pieces of a request in a thread, while the test emits; returns the outcomes."""

    def read(engine, count, **limits):
        given, outcomes = engine.request(**limits), []

        def run():
            source = CallbackSource(given, engine.submit, engine)
            for _ in range(count):
                outcomes.append(next(source))

        async def run_async():
            source = AsyncCallbackSource(given, engine.submit, engine)
            for _ in range(count):
                outcomes.append(await source.__anext__())

        def catch():
            try:
                run() if request.param == "sync" else asyncio.run(run_async())
            except TimeoutExceeded as error:
                outcomes.append(error)

        thread = threading.Thread(target=catch)
        thread.start()
        assert engine.submitted.wait(60)
        return outcomes, partial(thread.join, 60)

    return read


def test_no_limit_runs_while_the_request_waits_for_a_place(read):
    engine = Engine()
    outcomes, join = read(engine, 1, first_token=LIMIT)
    engine.wait(True)
    threading.Event().wait(3 * LIMIT)
    assert outcomes == []
    engine.emit(Piece("a"))
    join()
    assert outcomes == [Piece("a")]


def test_the_limit_starts_with_the_admission(read):
    engine = Engine()
    outcomes, join = read(engine, 1, first_token=LIMIT)
    engine.wait(True)
    engine.wait(False)
    join()
    assert outcomes[0].phase == "first_token"
    assert str(outcomes[0]) == (
        "Engine('x'): no piece of the answer came within 0.05 s, the limit for the first token; "
        "timeout=Timeout(first_token=…) changes it"
    )


def test_no_limit_runs_between_pieces_while_the_engine_compiles(read):
    engine = Engine()
    outcomes, join = read(engine, 2, first_token=60, idle=LIMIT)
    engine.emit(Piece("a"))
    engine.wait(True)
    threading.Event().wait(3 * LIMIT)
    assert outcomes == [Piece("a")]
    engine.wait(False)
    join()
    assert outcomes[1].phase == "idle"
    assert "no further piece of the answer came within 0.05 s, the limit for the time between" in str(
        outcomes[1]
    )


def test_the_limit_of_the_whole_answer_runs_all_the_time(read):
    engine = Engine()
    outcomes, join = read(engine, 1, first_token=60, total=LIMIT)
    engine.wait(True)
    join()
    assert outcomes[0].phase == "total"
    assert "the prompt still waited for its place or for compilation" in str(outcomes[0])
    assert "timeout=Timeout(total=…)" in str(outcomes[0])
