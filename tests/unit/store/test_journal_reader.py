"""Search in a journal."""

import sqlite3

import pytest

from lagent_llms import Completion, ConfigError, Journal, LLMError
from lagent_llms.schema import StreamChunk, TextBuffer
from lagent_llms.store.journal import Call, hash_of_input
from lagent_llms.store.journal_reader import JournalReader


def call(question, answer, error=None):
    messages = None if question is None else f'[{{"content":"{question}","role":"user"}}]'
    completion = None if error else Completion(answer, "stop")
    chunks = [StreamChunk(1, answer, 1, TextBuffer(), len(answer))]
    return Call(0.0, "X", {}, messages, "prompt", chunks=chunks, completion=completion, error=error)


@pytest.fixture
def reader(tmp_path):
    journal = Journal(tmp_path / "calls.sqlite")
    for one in (
        call("the sea", "blue"),
        call('a \\"quoted\\" word', "green"),
        call("the sky", "grey", LLMError("it rains")),
        call(None, "the sea again"),
    ):
        journal.put(one)
    journal.close()
    reader = JournalReader(journal.path)
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"newest": 2}, [3, 4]),
        ({"search": "the sea"}, [1, 4]),
        ({"search": "the sea", "newest": 1}, [4]),
        ({"search": 'a "quoted" word'}, [2]),
        ({"search": "it rains"}, [3]),
        ({"search": "the_sea"}, []),
        ({"failed": True}, [3]),
    ],
)
def test_calls_are_selected(reader, selection, expected):
    assert [found.id for found in reader.calls(**selection)] == expected


def test_calls_with_an_input(reader):
    key = hash_of_input('[{"content":"the sea","role":"user"}]', "any")
    assert [found.text for found in reader.with_input(key)] == ["blue"]


def test_a_damaged_call_is_named(reader):
    with sqlite3.connect(reader.path) as other:
        other.execute("UPDATE calls SET answer = 'x' WHERE id = 2")
    other.close()
    with pytest.raises(ConfigError, match="damaged at call 2"):
        list(reader.calls())
