"""An application with the structure of MindSearch runs on lagent's agents with only its model changed."""

import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("search_graph.py")
FRANCE, ITALY = "The capital of France is Paris.", "The capital of Italy is Rome."


@pytest.mark.parametrize("driver", ["sync", "async"])
def test_searchers_stream_at_the_same_time_from_one_model(lagent, driver):
    found = json.loads(lagent(SCRIPT, driver).splitlines()[-1])
    assert found["answer"] == f"Found: {FRANCE} {ITALY}"
    assert found["edges"] == {"root": ["france", "italy"]}
    for name, said in (("france", FRANCE), ("italy", ITALY)):
        node = found["nodes"][name]
        assert node["response"] == said
        assert node["states"].count(1) > 2  # STREAM_ING
        assert node["states"][-1] == 0  # END
        senders = [message["sender"] for message in node["memory"]["agent.memory"]]
        assert senders == ["user", senders[1], senders[2], senders[1]]
        assert senders[2].endswith("ActionExecutor")
    assert found["open"] == [0, 0]
    assert len(set(found["sessions"]) - {2967}) == 2  # one of each searcher
