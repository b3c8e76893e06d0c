"""The journal: what it has of a call, and what never enters it."""

import json
import sqlite3

import pytest

from lagent_llms import Completion, ConfigError, Journal, ServerError, ToolCall, Usage
from lagent_llms.schema import StreamChunk, TextBuffer
from lagent_llms.store.journal import Call, hash_of_input
from lagent_llms.store.journal_reader import JournalReader

SECRET = 'sk-"very"-secret'


def call(text="Paris", **fields):
    chunks = [StreamChunk(1, part, None, TextBuffer(), 0) for part in (text[:2], text[2:], "")]
    return Call(
        1.5e9,
        "ScriptedLLM",
        {"temperature": 0, "tool_parser": "auto"},
        fields.pop("messages", '[{"content":"hi","role":"user"}]'),
        fields.pop("prompt", "<hi>"),
        chunks=chunks,
        completion=fields.pop("completion", Completion(text, "stop", usage=Usage(3, 4), token_ids=(1,))),
        **{"secrets": [SECRET], "model": "m", "seconds": 0.5, "first_token": 0.25, **fields},
    )


@pytest.fixture
def written(tmp_path):
    """Write calls, and return those that are read."""

    def written(*calls, **options):
        journal = Journal(tmp_path / "calls.sqlite", **options)
        for one in calls:
            journal.put(one)
        journal.close()
        assert journal.lost == 0
        reader = JournalReader(journal.path)
        found = list(reader.calls())
        reader.close()
        return found

    return written


def test_a_call_is_kept_whole(written):
    (found,) = written(call())
    assert found.as_dict() == {
        "id": 1,
        "time": 1.5e9,
        "seconds": 0.5,
        "first_token": 0.25,
        "backend": "ScriptedLLM",
        "model": "m",
        "finish_reason": "stop",
        "cached": False,
        "attempts": 1,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "parameters": {"temperature": 0, "tool_parser": "auto"},
        "error": None,
        "messages": [{"content": "hi", "role": "user"}],
        "prompt": "<hi>",
        "text": "Paris",
        "completion": {
            "text": "Paris",
            "finish_reason": "stop",
            "usage": Usage(3, 4),
            "token_ids": (1,),
        },
    }
    assert [step.delta for step in found.answer.steps] == ["Pa", "ris", ""]


def test_failed_and_closed_calls(written):
    error = ServerError("busy", status_code=503, code="full", retry_after=2.0)
    failed, closed = written(call(completion=None, error=error), call(completion=None))
    assert (failed.status, closed.status) == ("ServerError", "closed")
    assert failed.error == {
        "type": "ServerError", "message": "busy", "status": 503, "code": "full", "retry_after": 2.0
    }  # fmt: skip
    assert (failed.text, failed.answer.completion) == ("Paris", None)


def test_secrets_never_enter_it(written, tmp_path):
    in_json = json.dumps(SECRET)[1:-1]
    tools = (ToolCall("f", {"key": SECRET}),)
    written(
        call(
            f"the key is {SECRET}",
            messages=f'[{{"content":"{in_json}","role":"user"}}]',
            prompt=f"<{SECRET}>",
            completion=Completion(f"the key is {SECRET}", "stop", tool_calls=tools, token_ids=(1,)),
        ),
        call(completion=None, error=ServerError(f"http://me:{SECRET}@host refused {SECRET}")),
        call(prompt="see https://me:pass@host/"),
    )
    connection = sqlite3.connect(tmp_path / "calls.sqlite")
    rows = [repr(row) for row in connection.execute("SELECT * FROM calls")]
    connection.close()
    assert "very" not in "".join(rows)
    assert "pass" not in rows[2]
    reader = JournalReader(tmp_path / "calls.sqlite")
    answers = [one.answer for one in reader.calls()]
    reader.close()
    assert "very" not in repr(answers)
    assert answers[0].completion.text == "the key is ***"
    assert answers[0].completion.token_ids == ()
    assert "".join(step.delta for step in answers[0].steps) == "the key is ***"


def test_without_content_only_figures_are_kept(written, tmp_path):
    (found, failed) = written(
        call("Zanzibar"), call(completion=None, error=ServerError("words", status_code=500)), content=False
    )
    assert (found.prompt_tokens, found.completion_tokens, found.seconds) == (3, 4, 0.5)
    assert found.parameters == {"temperature": 0}
    assert failed.error == {"type": "ServerError", "status": 500}
    assert (found.messages, found.prompt, found.text, found.answer) == (None, None, None, None)
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(word in data for word in (b"Zanzibar", b"words", b"<hi>"))


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match="is no regular file"):
        Journal(tmp_path)
    (tmp_path / "notes.txt").write_text("some notes" * 100)
    with pytest.raises(ConfigError, match=r"journal .*notes\.txt is damaged"):
        Journal(tmp_path / "notes.txt")
    with pytest.raises(ConfigError, match="there is no journal"):
        JournalReader(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


def test_an_input_is_known_by_its_messages_else_by_its_prompt():
    assert hash_of_input("[1]", "a") == hash_of_input("[1]", "b")
    assert hash_of_input(None, "a") != hash_of_input(None, "b")
    assert hash_of_input(None, "[1]") != hash_of_input("[1]", None)
