"""How a row of a dataset becomes a call."""

import pytest

from lagent_llms import InvalidArgument, UnknownParameter
from lagent_llms.ray.worker import RowCall

MESSAGES = [{"role": "user", "content": "Hi", "name": None}]
PLAIN = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("value", "given", "inputs", "parameters"),
    [
        ("Hi", None, "Hi", {}),
        ("Hi", {"temperature": 0, "seed": None}, "Hi", {"temperature": 0}),
        (MESSAGES, {"max_tokens": 3}, PLAIN, {"max_new_tokens": 3}),
        (
            {"messages": MESSAGES, "prompt": None, "stop": ["x"], "model": "m"},
            {},
            PLAIN,
            {"stop_words": ["x"]},
        ),
        ({"prompt": "Hi", "seed": 1}, {"seed": 2}, "Hi", {"seed": 2}),
    ],
)
def test_rows(value, given, inputs, parameters):
    assert RowCall("in", "given", None)({"in": value, "given": given}) == (inputs, parameters)


def test_a_prompt_template():
    call = RowCall("prompt", None, "Translate: {text}")
    assert call.columns == ["text"]
    assert call({"text": "Hi"}) == ("Translate: Hi", {})


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        ({"in": 3, "given": None}, InvalidArgument, "expected a prompt, messages or a body, got int"),
        ({"in": None, "given": None}, InvalidArgument, "got NoneType"),
        ({"in": {"max_tokens": 3}, "given": None}, InvalidArgument, "neither 'prompt' nor 'messages'"),
        ({"in": "Hi", "given": "seed=1"}, InvalidArgument, "given: expected an object, got str"),
        ({"in": "Hi", "given": {"temperatur": 0}}, UnknownParameter, r"\Aunknown parameter .*'temperature'"),
    ],
)
def test_rows_that_cannot_be_called(row, error, message):
    with pytest.raises(error, match=message):
        RowCall("in", "given", None)(row)


def test_a_column_that_is_missing():
    with pytest.raises(InvalidArgument, match=r"'given', did you mean 'givn'\? \(columns: in, givn\)"):
        RowCall("in", "given", None).check_columns(["in", "givn"])
