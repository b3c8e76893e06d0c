"""Responses are kept within bounds, for a time, for their owner."""

import pytest

from lagent_llms.errors import NotFound
from lagent_llms.serving.openai.responses_api.store import ResponseStore

SAID = [{"role": "user", "content": "Hi"}]


def test_a_response_is_read_continued_and_deleted_by_its_owner_only():
    store = ResponseStore()
    store.keep("alice", {"id": "r1"}, SAID)
    assert store.response("alice", "r1") == b'{"id":"r1"}'
    assert store.messages("alice", "r1") == SAID
    for use in (store.response, store.messages, store.delete):
        with pytest.raises(NotFound, match="no response 'r1'"):
            use("bob", "r1")
    store.delete("alice", "r1")
    with pytest.raises(NotFound):
        store.response("alice", "r1")


def test_the_oldest_responses_make_room():
    store = ResponseStore(max_responses=3)
    for number in range(5):
        store.keep("", {"id": f"r{number}"}, SAID)
    assert len(store) == 3
    with pytest.raises(NotFound):
        store.messages("", "r1")
    assert store.messages("", "r2") == SAID


def test_all_responses_together_have_a_size():
    store = ResponseStore(max_bytes=1000)
    for number in range(5):
        store.keep("", {"id": f"r{number}"}, [{"role": "user", "content": "x" * 400}])
    assert len(store) == 2
    store.keep("", {"id": "large"}, [{"role": "user", "content": "x" * 2000}])
    assert len(store) == 2
    with pytest.raises(NotFound):
        store.response("", "large")
    for number in (3, 4):
        store.delete("", f"r{number}")
    store.keep("", {"id": "r6"}, [{"role": "user", "content": "x" * 900}])
    assert store.messages("", "r6")


def test_a_response_expires():
    now = 0.0
    store = ResponseStore(seconds=10, clock=lambda: now)
    store.keep("", {"id": "r1"}, SAID)
    now = 9.0
    store.keep("", {"id": "r2"}, SAID)
    assert store.messages("", "r1") == SAID
    now = 11.0
    with pytest.raises(NotFound) as error:
        store.messages("", "r1")
    assert error.value.code == "previous_response_not_found"
    assert len(store) == 1
