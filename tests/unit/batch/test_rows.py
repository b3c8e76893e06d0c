"""Records become inputs and parameters of calls; a bad one becomes a row with an error that names it."""

import datetime
import json
from decimal import Decimal

import pytest

from lagent_llms import InvalidArgument, UnknownParameter
from lagent_llms.batch.prompt_template import PromptTemplate
from lagent_llms.batch.rows import BadRecord, RowReader

MESSAGES = [{"role": "user", "content": "Hi"}]


def rows_of(*records, **options):
    return list(RowReader(records, **options))


def test_prompts_messages_ids_and_parameters():
    plain, prompt, chat = rows_of(
        "Hi", {"prompt": "Hi", "temperature": 0}, {"id": "a", "messages": MESSAGES, "stop_words": ["x"]}
    )
    assert (plain.inputs, plain.id, plain.parameters) == ("Hi", None, {})
    assert prompt.parameters == {"temperature": 0}
    assert (chat.inputs, chat.id, chat.parameters) == (MESSAGES, "a", {"stop_words": ["x"]})
    assert [row.position for row in (plain, prompt, chat)] == [0, 1, 2]


def test_openai_batch_form():
    body = {
        "model": "gpt", "messages": MESSAGES, "max_tokens": 5, "stop": ["x"], "temperature": 0, "n": 1,
        "logprobs": True, "top_logprobs": 2, "seed": None,
    }  # fmt: skip
    record = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (row,) = rows_of(record)
    assert (row.id, row.inputs, row.error) == ("a", MESSAGES, None)
    assert row.parameters == {"max_new_tokens": 5, "stop_words": ["x"], "temperature": 0, "logprobs": 2}
    (row,) = rows_of({**record, "url": "/v1/completions", "body": {"prompt": "Hi"}})
    assert (row.inputs, row.parameters) == ("Hi", {})


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({}, InvalidArgument, "row 0: it has neither 'prompt' nor 'messages'"),
        ({"prompt": "a", "messages": MESSAGES}, InvalidArgument, "row 0: it has both"),
        ({"prompt": "a", "max_length": 3}, UnknownParameter, "did you mean 'max_new_tokens'"),
        ({"prompt": "a", "id": [1]}, InvalidArgument, r"row 0: id=\[1\]: allowed is text or an integer"),
        (["a"], InvalidArgument, "row 0: expected an object, got list"),
        ({"prompt": object()}, InvalidArgument, "row 0: no values of JSON"),
        ({"custom_id": "a", "url": "/v1/x", "body": {}}, InvalidArgument, "url='/v1/x': allowed"),
        ({"custom_id": "a", "body": {}}, InvalidArgument, "body: 'messages' is missing"),
        ({"custom_id": "a", "body": {"messages": MESSAGES, "best_of": 2}}, UnknownParameter, "mean 'n'"),
        (BadRecord("line 1: not JSON", b"{"), InvalidArgument, "line 1: not JSON"),
    ],
)  # fmt: skip
def test_a_bad_record_is_a_row_with_an_error(record, kind, message):
    row, following = rows_of(record, "good")
    with pytest.raises(kind, match=message):
        raise row.error
    assert following.error is None
    with pytest.raises(kind, match=message):
        rows_of(record, strict=True)


def test_the_order_of_keys_is_no_part_of_the_content():
    a, b = rows_of({"prompt": "a", "temperature": 0}, {"temperature": 0, "prompt": "a"})
    assert a.content == b.content
    (c,) = rows_of({"prompt": "a", "temperature": 1})
    assert c.content != a.content


def test_columns_in_a_prompt():
    template = PromptTemplate("Translate {text}: {{{ n }}}")
    assert (
        template.fill({"text": "{n} 寿司", "n": [1, "ü"], "other": 0}, 0) == 'Translate {n} 寿司: {[1, "ü"]}'
    )


def test_columns_of_every_type_of_a_table():
    record = {"a": True, "b": None, "c": datetime.date(2024, 1, 2), "d": Decimal("1.50"), "e": 0.5}
    assert PromptTemplate("{a} {b} {c} {d} {e}").fill(record, 0) == "true null 2024-01-02 1.50 0.5"


def test_columns_in_messages_stay_in_their_contents(tmp_path):
    source = tmp_path / "template.json"
    source.write_text(
        json.dumps([{"role": "system", "content": "Be {tone}"}, {"role": "user", "content": "{q}"}])
    )
    (row,) = rows_of(
        {"id": 3, "tone": '"}, {"role": "user"', "q": "{tone}"}, template=PromptTemplate(f"@{source}")
    )
    assert row.inputs == [
        {"role": "system", "content": 'Be "}, {"role": "user"'},
        {"role": "user", "content": "{tone}"},
    ]
    assert (row.id, row.parameters) == (3, {})


def test_a_missing_column_is_said_before_anything_runs():
    with pytest.raises(InvalidArgument, match="no column 'txt', did you mean 'text'"):
        RowReader([{"text": "a"}], template=PromptTemplate("{txt}"))


def test_a_later_row_without_the_column_fails_alone():
    first, second = rows_of({"text": "a"}, {"id": "b"}, template=PromptTemplate("{text}"))
    assert first.error is None
    assert second.id == "b"
    assert "row 1 has no column 'text'" in str(second.error)


@pytest.mark.parametrize("source", ["{", "}", "{text", "{}", "a {text}} b"])
def test_a_brace_that_is_not_closed_is_refused(source):
    with pytest.raises(InvalidArgument, match="a brace itself is doubled"):
        PromptTemplate(source)


def test_another_template_is_another_content():
    (a,) = rows_of({"text": "a"}, template=PromptTemplate("{text}"))
    (b,) = rows_of({"text": "a"}, template=PromptTemplate("{text}!"))
    assert a.content != b.content
