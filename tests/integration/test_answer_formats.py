"""The format of a Jinja template's answers is found by what the template renders."""

from __future__ import annotations

import pytest

from lagent_llms.schema import ToolCall
from lagent_llms.templates import load_template
from lagent_llms.templates.answers.formats import CALL_FORMATS
from lagent_llms.testing import ScriptedLLM

ARGUMENTS = "{{ call.function.arguments | tojson }}"
#: Parser to what its models' templates write for one call.
WRITTEN = {
    "hermes": '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": ' + ARGUMENTS
    + "}\n</tool_call>",
    "internlm2": '<|action_start|><|plugin|>\n{"name": "{{ call.function.name }}", "parameters": '
    + ARGUMENTS + "}<|action_end|>",
    "qwen3-coder": "<tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments | items %}<parameter={{ key }}>\n"
    "{{ value if value is string else value | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>",
    "seed-oss": "<seed:tool_call>\n<function={{ call.function.name }}>\n"
    "{% for key, value in call.function.arguments | items %}<parameter={{ key }}>{{ value }}</parameter>\n"
    "{% endfor %}</function>\n</seed:tool_call>",
    "glm-4.5": "<tool_call>{{ call.function.name }}\n{% for key, value in call.function.arguments | items %}"
    "<arg_key>{{ key }}</arg_key>\n"
    "<arg_value>{{ value if value is string else value | tojson }}</arg_value>\n"
    "{% endfor %}</tool_call>",
    "mistral": "[TOOL_CALLS]{{ call.function.name }}[ARGS]" + ARGUMENTS,
    "deepseek-v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
    "{{ call.function.name }}\n```json\n" + ARGUMENTS + "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "kimi-k2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.{{ call.function.name }}:0"
    "<|tool_call_argument_begin|>" + ARGUMENTS + "<|tool_call_end|><|tool_calls_section_end|>",
    "gpt-oss": " to=functions.{{ call.function.name }}<|channel|>commentary json<|message|>" + ARGUMENTS
    + "<|call|>",
    "command-r7b": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "{{ call.function.name }}", '
    '"parameters": ' + ARGUMENTS + "}]<|END_ACTION|>",
    "granite": '<|tool_call|>[{"arguments": ' + ARGUMENTS + ', "name": "{{ call.function.name }}"}]',
    "llama-3": '{"name": "{{ call.function.name }}", "parameters": ' + ARGUMENTS + "}",
    "xlam": '[{"name": "{{ call.function.name }}", "arguments": ' + ARGUMENTS + "}]",
}  # fmt: skip


def source(written: str, generation: str = "") -> str:
    return (
        "{% for message in messages %}<|{{ message.role }}|>"
        "{% if message.tool_calls %}{% for call in message.tool_calls %}" + written + "{% endfor %}"
        "{% else %}{{ message.content }}{% endif %}<|end_of_turn|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>" + generation + "{% endif %}"
    )


@pytest.mark.parametrize("parser", WRITTEN)
def test_by_the_call_that_a_template_renders(parser: str) -> None:
    template = load_template(source(WRITTEN[parser]))
    assert template is not None
    assert template.answer_marks().calls == CALL_FORMATS[parser]
    assert template.guarded("escape").answer_marks() == template.answer_marks()


@pytest.mark.parametrize(
    ("said", "parser"),
    [
        ("Write [TOOL_CALLS] and a list.", "mistral"),
        ("Write <tool_call> JSON </tool_call>.", "hermes"),
        (
            "Write <tool_call><function=NAME><parameter=KEY></parameter></function></tool_call>.",
            "qwen3-coder",
        ),
        ("Nothing.", None),
    ],
)
def test_by_marks_where_a_template_renders_no_calls(said: str, parser: str | None) -> None:
    template = load_template(
        "{{ raise_exception('no') if messages[1] }}" + said + "{{ messages[0].content }}"
    )
    assert template is not None
    assert template.answer_marks().calls == (CALL_FORMATS[parser] if parser else None)


def test_calls_and_reasoning_of_a_template() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    messages = [{"role": "user", "content": "q"}]
    for generation, answer in (
        ("", f"<think>\nhm\n</think>\n\n{call}"),
        ("<think>\n", f"hm\n</think>\n\n{call}"),
        ("<think>\n\n</think>\n\n", call),
    ):
        llm = ScriptedLLM(answer, meta_template=source("</think>" + WRITTEN["hermes"], generation))
        found = llm.complete(messages)
        assert found.reasoning == ("hm" if "hm" in answer else "")
        assert (found.text, found.content, found.raw_text) == (call, "", answer)
        assert found.tool_calls == (ToolCall("f", {"x": 1}),)


def test_channels_of_harmony() -> None:
    llm = ScriptedLLM(
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Four.",
        meta_template=source(WRITTEN["gpt-oss"]) + "{# <|channel|>analysis<|message|> <|end|> #}",
    )
    chunks = list(llm.stream_chat("2 + 2?"))
    assert [(chunk.reasoning, chunk.delta) for chunk in chunks if chunk.reasoning or chunk.delta] == [
        ("hm", "Four.")
    ]
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.text == "Four."
