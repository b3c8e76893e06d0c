"""A tool's round trip with Jinja templates: forms of calls, sessions, and templates that render no calls."""

import json

import pytest

from lagent_llms import ToolCall
from lagent_llms.errors import TemplateError
from lagent_llms.templates import load_template
from lagent_llms.testing import ScriptedLLM

ASKED = {"role": "user", "content": "What is 231 * 17?"}
ARGUMENTS = {"expression": "231 * 17", "unit": "é"}
RESULT = {"role": "tool", "content": "3927"}
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "CALLS<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALLS = (
    "{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}"
)
WITH_CALLS = TURNS.replace("CALLS", CALLS)
WITH_IDS = TURNS.replace("CALLS", "{{ m.tool_call_id }}{% for c in m.tool_calls %}{{ c.id }}{% endfor %}")
WITHOUT_CALLS = TURNS.replace("CALLS", "")
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
CONTINUE = {"session_id": 1, "sequence_start": False, "sequence_end": False}


class SDKObject:
    """A tool call as an object of an SDK."""

    def __init__(self, **fields):
        self._fields = fields

    def model_dump(self, *, exclude_none=False):
        return {key: value for key, value in self._fields.items() if value is not None or not exclude_none}


def dialog_with(call):
    return [ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT]


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("calculator", ARGUMENTS),
        {"type": "function", "function": {"name": "calculator", "arguments": ARGUMENTS}},
        {"type": "function", "function": {"name": "calculator", "arguments": json.dumps(ARGUMENTS)}},
        SDKObject(function=SDKObject(name="calculator", arguments=json.dumps(ARGUMENTS)), id=None),
    ],
    ids=["ToolCall", "dict", "JSON", "SDK"],
)
def test_all_forms_of_a_call_give_one_prompt(call):
    template = load_template(WITH_CALLS)
    prompt = template.render(dialog_with(call))
    assert '{"name": "calculator", "arguments": {"expression": "231 * 17", "unit": "é"}}\n</tool' in prompt
    llm = ScriptedLLM("fine", meta_template=template)
    llm.chat(dialog_with(call))
    assert llm.requests[0].prompt == prompt


def test_calls_and_results_have_ids_for_templates_that_need_them():
    llm = ScriptedLLM("fine", meta_template=WITH_IDS)
    llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)), **OPEN)
    expected = "assistant\ncall00000<|im_end|>\n<|im_start|>tool\n3927call00000<|im_end|>"
    assert expected in llm.requests[-1].prompt
    llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)), **CONTINUE)
    assert expected in llm.requests[-1].prompt
    assert expected.replace("00000", "00001") in llm.requests[-1].prompt


@pytest.mark.parametrize("role", ["environment", "function"])
def test_results_get_the_role_that_the_template_names(role):
    source = WITHOUT_CALLS.replace("{{ m.role }}", "{{ 'user' if m.role == 'tool' else m.role }}")
    llm = ScriptedLLM("fine", meta_template=source)
    llm.chat([ASKED, {"role": "assistant", "content": "a call"}, {"role": role, "content": "3927"}])
    assert "<|im_start|>user\n3927<|im_end|>" in llm.requests[0].prompt


def test_a_template_that_renders_no_calls_keeps_those_of_a_session_as_text():
    answer = f'<tool_call>\n{{"name": "f", "arguments": {json.dumps(ARGUMENTS)}}}\n</tool_call>'
    llm = ScriptedLLM(answer, meta_template=WITHOUT_CALLS)
    llm.chat([ASKED], **OPEN)
    llm.chat([RESULT], **CONTINUE)
    assert f"<|im_start|>assistant\n{answer}<|im_end|>\n<|im_start|>tool\n3927" in llm.requests[-1].prompt


def test_calls_are_never_left_out_of_a_prompt_silently():
    llm = ScriptedLLM("fine", meta_template=WITHOUT_CALLS)
    with pytest.raises(TemplateError, match=r"messages\[1\] .*: this template has no format for tool_calls"):
        llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)))
    assert llm.requests == []
