"""Workers of a batch: as many as its places, and one that waits."""

import threading

from lagent_llms.core.admission import Admission
from lagent_llms.core.concurrency import Concurrency
from lagent_llms.core.crew import Crew
from lagent_llms.core.gates import Gate
from lagent_llms.testing import ScriptedLLM


def crew_of(places, most, start=object):
    concurrency = Concurrency(100)
    concurrency.limit = float(places)
    return Crew(Gate(Admission([concurrency])), start, most), concurrency


def test_workers_start_as_the_places_grow():
    crew, concurrency = crew_of(1, 100)
    crew.grow()
    assert len(crew.workers) == 2
    concurrency.limit = 10.0
    crew.grow()
    crew.grow()
    assert len(crew.workers) == 11
    crew.close()
    concurrency.limit = 50.0
    crew.grow()
    assert len(crew.workers) == 11


def test_no_more_workers_than_prompts():
    crew, _ = crew_of(10, 3)
    crew.grow()
    assert len(crew.workers) == 3


def test_a_system_without_further_threads_keeps_those_it_has():
    started = []

    def start():
        if len(started) == 4:
            raise RuntimeError("can't start new thread")
        started.append(1)

    crew, _ = crew_of(10, 100, start)
    crew.grow()
    crew.grow()
    assert len(crew.workers) == 4


def test_a_short_list_of_prompts_starts_few_threads():
    seen = set()
    llm = ScriptedLLM(lambda request: seen.add(threading.current_thread()) or "x", max_concurrency=64)
    assert llm.generate(["a", "b"]) == ["x", "x"]
    assert len(seen) <= 2
