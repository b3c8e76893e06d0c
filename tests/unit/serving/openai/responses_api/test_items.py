"""The items of the Responses API as messages of a chat."""

import pytest

from lagent_llms.errors import InvalidArgument, UnsupportedParameter
from lagent_llms.serving.openai.responses_api.items import messages_of

CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def test_an_agents_dialog():
    items = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {
            "type": "reasoning",
            "id": "r",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "One moment."}]},
        CALL,
        {**CALL, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "assistant", "content": "Three."},
        {"role": "assistant", "content": "Or four."},
    ]
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    assert messages_of(items) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "One moment.",
            "reasoning_content": "Hm.",
            "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "content": "Three."},
        {"role": "assistant", "content": "Or four."},
    ]
    assert messages_of("Hi") == [{"role": "user", "content": "Hi"}]


def test_an_image_is_passed_on_or_refused_by_name():
    items = [{"role": "user", "content": [{"type": "input_text", "text": "What?"}, IMAGE]}]
    (message,) = messages_of(items, images=True)
    assert message["content"][1] == {"type": "image_url", "image_url": {"url": IMAGE["image_url"]}}
    with pytest.raises(
        UnsupportedParameter, match=r"input\[0\].content\[1\].image_url: the served model takes"
    ):
        messages_of(items)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "item_reference", "id": "x"}, r"input\[0\].type='item_reference': allowed is 'message'"),
        ({"role": "critic", "content": "x"}, r"input\[0\].role='critic': allowed is one of 'user'"),
        ({"role": "user"}, r"input\[0\].content=None"),
        ({"role": "user", "content": [{"type": "input_file"}]}, r"input\[0\].content\[0\].type='input_file'"),
        ({"role": "user", "content": [5]}, r"input\[0\].content\[0\].type=None"),
        ({**CALL, "arguments": {}}, r"input\[0\].arguments={}: allowed is a string"),
        ({"role": "user", "content": [{**IMAGE, "image_url": "/etc/passwd"}]}, "'/etc/passwd' is no image"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "None is no image"),
    ],
)
def test_a_malformed_item_is_refused_by_its_place(item, message):
    with pytest.raises(InvalidArgument, match=message):
        messages_of([item], images=True)
