"""lagent's parsers and its list-of-dicts format, and tool calls in both directions."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from lagent_llms.errors import InvalidArgument, TemplateError
from lagent_llms.schema import ToolCall
from lagent_llms.templates import INTERNLM2_META, APITemplateParser, LMTemplateParser, load_template

from .conftest import load

LAGENT = [row for row in load("golden.json.gz") if row["family"] == "internlm2-lagent"]


@pytest.mark.parametrize("row", LAGENT, ids=lambda row: row["id"])
def test_internlm2_meta_as_lagent_renders_it(row: dict[str, Any]) -> None:
    for parse in (LMTemplateParser(INTERNLM2_META), load_template(INTERNLM2_META).render):  # type: ignore[union-attr]
        if "error" in row:
            with pytest.raises(TemplateError):
                parse(row["messages"])
        else:
            assert parse(row["messages"]) == row["expected"]


def test_a_string_is_used_as_the_prompt() -> None:
    assert LMTemplateParser(INTERNLM2_META)("as it is") == "as it is"
    assert LMTemplateParser()("as it is") == "as it is"
    assert LMTemplateParser()([{"role": "user", "content": "a"}, {"role": "x", "content": "b"}]) == "a\nb"


def _written(message: dict[str, Any]) -> str:
    """One message in INTERNLM2_META's format."""
    known = {"plugin": "<|plugin|>", "interpreter": "<|interpreter|>"}
    name = message.get("name")
    if message["role"] != "user":
        name = known.get(name, name)  # type: ignore[arg-type]
    named = "" if name is None else f" name={name}"
    return f"<|im_start|>{message['role']}{named}\n{message['content']}<|im_end|>\n"


@pytest.mark.parametrize(
    "names", [("plugin",), ("plugin", "interpreter", "李雷", None), tuple(map(str, range(90)))]
)
def test_names_in_dialogs_of_any_length(names: tuple[str | None, ...]) -> None:
    parse = LMTemplateParser(INTERNLM2_META)
    roles = ("user", "assistant", "environment")
    dialog: list[dict[str, Any]] = [{"role": "system", "content": "s", "name": "plugin"}]
    for number in range(120):
        message = {"role": roles[number % 3], "content": f"{number} é"}
        dialog.append(message if number % 2 else {**message, "name": names[number % len(names)]})
        expected = "".join(map(_written, dialog))
        expected += "" if dialog[-1]["role"] == "assistant" else "<|im_start|>assistant\n"
        assert parse(dialog) == expected
    dialog[5] = {**dialog[5], "tool_calls": None, "refusal": None}
    assert parse(dialog) == expected


def test_names_are_ignored_where_the_format_has_no_place_for_them() -> None:
    dialog = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 3
    named = [{**message, "name": "n"} for message in dialog]
    for family in ("chatml", "qwen3", "llama-2", "deepseek-v3"):
        template = load_template(family)
        assert template is not None
        assert template.render(named) == template.render(dialog)


def test_messages_are_checked_and_converted_while_they_are_rendered() -> None:
    class Who(str, Enum):
        USER = "user"

    parse = LMTemplateParser(INTERNLM2_META)
    plain = parse([{"role": "user", "content": "x"}])
    converted: list[Any] = [
        [{"role": Who.USER, "content": "x"}],
        ({"role": "user", "content": "x"},),
        [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        [{"role": "user", "content": "x", "refusal": None}],
    ]
    for messages in converted:
        assert parse(messages) == plain
    for content in ("\ud800", 3):
        with pytest.raises(InvalidArgument, match="inputs\\[0\\]"):
            parse([{"role": "user", "content": content}])
    with pytest.raises(InvalidArgument, match="empty"):
        parse([])


META = [
    {"role": "system", "begin": "<S>", "end": "</S>", "api_role": "system"},
    {
        "role": "user",
        "begin": {"with_name": "<U {name}>", "without_name": "<U>"},
        "end": "</U>",
        "api_role": "user",
    },
    {"role": "assistant", "begin": "<A>", "end": "</A>", "api_role": "assistant", "generate": True},
    {"role": "tool", "fallback_role": "user"},
]


def test_fallback_role_and_generate() -> None:
    parse = LMTemplateParser(META)
    dialog = [{"role": "user", "content": "u", "name": "n"}, {"role": "tool", "content": "t"}]
    assert parse(dialog) == "<U n>u</U><U>t</U><A>"
    assert parse([*dialog, {"role": "assistant", "content": "half"}]) == "<U n>u</U><U>t</U><A>half"


def test_api_roles_are_mapped_and_merged() -> None:
    parse = APITemplateParser(
        [
            {"role": "user", "api_role": "user"},
            {"role": "assistant", "api_role": "assistant"},
            {"role": "environment", "fallback_role": "user"},
            {"role": "critic"},
        ]
    )
    dialog = [
        {"role": "user", "content": "a"},
        {"role": "environment", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": [{"name": "f"}]},
        {"role": "assistant", "content": "c2"},
        {"role": "critic", "content": "d"},
    ]
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert parse(dialog) == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c", "tool_calls": [call]},
        {"role": "assistant", "content": "c2"},
        {"role": "critic", "content": "d"},
    ]
    assert parse("hi") == [{"role": "user", "content": "hi"}]
    assert APITemplateParser()([{"role": "any", "content": "x"}]) == [{"role": "any", "content": "x"}]
    with pytest.raises(
        TemplateError, match=r"messages\[0\]: the template has no role 'usr', did you mean 'user'"
    ):
        parse([{"role": "usr", "content": "x"}])


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ([], None),
        ("abc", r"expected a list of dicts, got str"),
        ([3], r"meta_template\[0\]: expected a mapping of keys, got int"),
        ([{"begin": "x"}], r"meta_template\[0\]: 'role' is missing"),
        ([{"role": "user"}, {"role": "user"}], r"role 'user' occurs twice"),
        ([{"role": "user", "bgin": ""}], r"unknown key 'bgin', did you mean 'begin'"),
        ([{"role": "user", "end": 3}], r"meta_template\[0\] \(role 'user'\)\.end: expected a string, got 3"),
        ([{"role": "user", "fallback_role": "x"}], r"role 'user'\): fallback_role 'x' is not another role"),
        ([{"role": "user"}], r"there is no entry for role 'assistant'"),
    ],
)
def test_bad_meta_templates(meta: Any, message: str | None) -> None:
    if message is None:
        assert LMTemplateParser(meta)([{"role": "user", "content": "x"}]) == "x"
        return
    with pytest.raises(TemplateError, match=message):
        LMTemplateParser(meta)


def test_bad_dialogs() -> None:
    parse = LMTemplateParser(INTERNLM2_META)
    with pytest.raises(TemplateError, match="the template has no role 'critic'"):
        parse([{"role": "critic", "content": "x"}])
    with pytest.raises(InvalidArgument, match="'content' is missing"):
        parse([{"role": "user"}])


CALL = '{"name": "calculator", "parameters": {"expression": "231 * 17"}}'
DEEP = '{"name": "f", "arguments": ' + '{"x": ' * 3000 + "1" + "}" * 3001


@pytest.mark.parametrize(
    ("family", "text", "kept", "calls"),
    [
        ("internlm2", f"Let me see.<|action_start|><|plugin|>\n{CALL}<|action_end|>\n", "Let me see.", 1),
        ("internlm2", f"<|action_start|><|plugin|>{CALL}", "", 1),
        ("internlm2", "nothing <|action_end|> here ", "nothing <|action_end|> here ", 0),
        ("internlm2", "<|action_start|><|plugin|>\n{broken", "<|action_start|><|plugin|>\n{broken", 0),
        ("qwen2.5", f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>", "", 2),
        ("hermes-3", f"A <tool_call>\n{CALL}\n</tool_call>\n B", "A B", 1),
        ("hermes-3", f"<tool_call>no json</tool_call><tool_call>{CALL}</tool_call>",
         "<tool_call>no json</tool_call>", 1),
        ("hermes-3", f"<tool_call>{DEEP}</tool_call><tool_call>{CALL}</tool_call>",
         f"<tool_call>{DEEP}</tool_call>", 1),
        ("hermes-3", '<tool_call>{"name": "f", "arguments": {"x": "\ud800"}}</tool_call>',
         '<tool_call>{"name": "f", "arguments": {"x": "\ud800"}}</tool_call>', 0),
        ("chatml", f"<tool_call>\n{CALL}\n</tool_call>", f"<tool_call>\n{CALL}\n</tool_call>", 0),
    ],
)  # fmt: skip
def test_tool_calls_are_read(family: str, text: str, kept: str, calls: int) -> None:
    template = load_template(family)
    assert template is not None
    call = ToolCall("calculator", {"expression": "231 * 17"})
    assert template.parse_tool_calls(text) == (kept, (call,) * calls)


def test_internlm2_meta_reads_calls_as_its_family_does() -> None:
    from_list, family = load_template(INTERNLM2_META), load_template("internlm2")
    assert from_list is not None
    assert family is not None
    assert from_list.tool_call == family.tool_call
    assert (from_list.bos_by, from_list.adds_bos) == ("server", False)


def test_tool_calls_are_written_and_read_back() -> None:
    function = {"name": "f", "arguments": {"x": "é"}}
    for name in ("internlm2", "qwen2.5", "qwen3", "hermes-3", "internlm2-lagent"):
        template = load_template(name)
        assert template is not None
        dialog = [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "tool_calls": [{"function": function}, function]},
        ]
        text = template.render(dialog, add_generation_prompt=False).partition("assistant")[2]
        assert template.parse_tool_calls(text)[1] == (ToolCall("f", {"x": "é"}),) * 2
        bare = {"role": "assistant", "tool_calls": [function]}
        for message in (bare, {**bare, "content": None}, {**bare, "content": ""}):
            assert template.history_text([dialog[0], message]).count('"name": "f"') == 1
    with pytest.raises(TemplateError, match="no format for tool_calls"):
        load_template("chatml").render(dialog)  # type: ignore[union-attr]
    with pytest.raises(TemplateError, match="a tool call needs"):
        template.render([{"role": "assistant", "content": "", "tool_calls": [{"id": "x"}]}])
