"""The messages and blocks of the Messages API as messages of a chat."""

import pytest

from lagent_llms.errors import InvalidArgument, UnsupportedParameter
from lagent_llms.serving.anthropic.blocks import messages_of
from lagent_llms.serving.anthropic.schemas import CountTokensRequest

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}


def converted(*messages, images=False, **fields):
    return messages_of(CountTokensRequest(model="m", messages=[*messages], **fields), images=images)


def test_an_agents_dialog():
    found = converted(
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "redacted_thinking", "data": "…"},
                {"type": "text", "text": "One moment."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "1"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "2"}]},
                {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
            ],
        },
        system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
    )
    assert found[0] == {"role": "system", "content": "Be brief.\nBe kind."}
    assert found[1] == {"role": "user", "content": "Hi"}
    assert found[2]["content"] == "One moment."
    assert found[2]["reasoning_content"] == "Hm."
    assert [call["function"]["arguments"] for call in found[2]["tool_calls"]] == ['{"a": 1}', "{}"]
    assert found[3:] == [
        {"role": "tool", "tool_call_id": "t1", "content": "1"},
        {"role": "tool", "tool_call_id": "t2", "content": "2"},
        {"role": "user", "content": "And?"},
    ]


def test_an_image_is_passed_on_or_refused_by_name():
    message = {"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}
    (found,) = converted(message, images=True)
    assert found["content"][1]["image_url"]["url"] == "data:image/png;base64,AAAA"
    with pytest.raises(
        UnsupportedParameter, match=r"messages\[0\].content\[1\].source: the served model takes"
    ):
        converted(message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "critic", "content": "x"}, r"messages\[0\].role='critic'"),
        ({"role": "user"}, r"messages\[0\].content=None: allowed is a string or a list"),
        ({"role": "user", "content": [{"type": "document"}]}, r"messages\[0\].content\[0\].type='document'"),
        ({"role": "user", "content": [{"type": "tool_use"}]}, r"content\[0\].type='tool_use'"),
        ({"role": "user", "content": [{"type": "text"}]}, r"content\[0\].text=None: allowed is a string"),
        ({"role": "user", "content": [{"type": "tool_result", "content": "x"}]}, r"tool_use_id=None"),
        ({"role": "user", "content": [{"type": "image", "source": 5}]}, r"source.type=None"),
        (
            {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "file:///x"}}]},
            "'file:///x' is no image",
        ),
    ],
)
def test_a_malformed_block_is_refused_by_its_place(message, expected):
    with pytest.raises(InvalidArgument, match=expected):
        converted(message, images=True)
