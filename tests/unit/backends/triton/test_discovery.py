"""Resolving the server's model, without I/O."""

import pytest

from lagent_llms import ServerError
from lagent_llms.backends.triton.conversation import GetModelConfig, Infer, ListModels, OpenStream
from lagent_llms.backends.triton.discovery import Finder, LazyConversation, ModelSelector, list_models
from tests.unit.backends.triton.models import CONFIG, request


def finder(name="llm", **wanted):
    given = {
        "dialect": None,
        "bos": "",
        "session_len": None,
        "tokenizer": None,
        "cumulative": None,
        "echo": None,
    }
    return Finder(ModelSelector(name, **{**given, **wanted}))


def test_model_is_resolved_once():
    found = finder()
    steps = found.find()
    assert isinstance(next(steps), ListModels)
    assert steps.send([{"name": "llm", "state": "READY"}]) == GetModelConfig("llm")
    with pytest.raises(StopIteration) as end:
        steps.send(CONFIG)
    assert end.value.value.dialect.name == "trtllm"
    assert end.value.value.model.output_style.cumulative is True  # from the config
    with pytest.raises(StopIteration):
        next(found.find())


def test_tokenizing_model_is_resolved_on_demand():
    found = finder()
    counting = found.tokenize("hi")
    next(counting)
    counting.send([{"name": "llm", "state": "READY"}, {"name": "preprocessing", "state": "READY"}])
    assert counting.send(CONFIG) == GetModelConfig("preprocessing")
    with pytest.raises(StopIteration) as none:
        counting.throw(ServerError("no such model", status_code=404))
    assert none.value.value is None
    again = found.tokenize("hi")
    assert next(again) == GetModelConfig("preprocessing")
    query = {"name": "QUERY", "data_type": "TYPE_STRING", "dims": [1]}
    assert again.send({"name": "preprocessing", "input": [query]}).request.model == "preprocessing"
    assert isinstance(next(found.tokenize("hi")), Infer)  # resolved only once


def test_one_ready_version_is_enough():
    steps = finder().find()
    next(steps)
    entries = [
        {"name": "llm", "state": "READY"},
        {"name": "llm", "state": "UNAVAILABLE", "reason": "unloaded"},
    ]
    assert steps.send(entries) == GetModelConfig("llm")
    other = finder().find()
    next(other)
    with pytest.raises(ServerError, match="not loaded"):
        other.send([{"name": "llm"}])


def test_a_conversation_resolves_its_model_at_the_first_step_and_keeps_it_for_retries():
    lazy = LazyConversation(finder(), request())
    assert (lazy.server_session, lazy.cancel_request()) == (None, None)
    steps = lazy.steps()
    assert next(steps) == ListModels()
    assert steps.send([{"name": "llm", "state": "READY"}]) == GetModelConfig("llm")
    opened = steps.send(CONFIG)
    assert isinstance(opened, OpenStream)
    assert next(lazy.steps()) is not opened
    assert next(lazy.steps()) == opened


@pytest.mark.parametrize("entries", [None, {"a": 1}, [1], [{}], [{"name": "a"}, None]])
def test_invalid_model_index(entries):
    listing = list_models()
    assert next(listing) == ListModels()
    with pytest.raises(ServerError, match="cannot be read"):
        listing.send(entries)
