"""A tool's round trip: the model's call, its message and the tool's result in the dialog, the next answer."""

import asyncio
import contextlib
import json

import pytest

from lagent_llms import INTERNLM2_META, ToolCall
from lagent_llms.errors import TemplateError
from lagent_llms.templates import available_templates, load_template
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

ASKED = {"role": "user", "content": "What is 231 * 17?"}
ARGUMENTS = {"expression": "231 * 17", "unit": "é"}
RESULT = {"role": "tool", "content": "3927"}
TOOLS = [{"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}}]
WITH_CALLS = [name for name in available_templates() if load_template(name).tool_call is not None]
WITH_RESULTS = [name for name in available_templates() if load_template(name).result_roles]
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
CONTINUE = {"session_id": 1, "sequence_start": False, "sequence_end": False}


def called(family, text=""):
    """Return an answer with a tool call, as a model of the family writes it."""
    call = ToolCall("calculator", ARGUMENTS).to_openai()
    return text + load_template(family).tool_call.write([call], "", after_content=bool(text))


def dialog_with(*calls):
    return [ASKED, {"role": "assistant", "content": None, "tool_calls": [*calls]}, RESULT]


def test_every_family_with_tools_is_tested():
    tools = {name for name in available_templates() if load_template(name).family.tools is not None}
    assert tools <= {*WITH_CALLS} & {*WITH_RESULTS}
    assert len(WITH_RESULTS) > 10


@pytest.mark.parametrize("answer", ["", "Let me see."])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("family", WITH_CALLS)
def test_a_session_and_the_callers_own_dialog_have_the_same_prompts(family, asynchronous, answer):
    script = called(family, answer)
    llm = (AsyncScriptedLLM if asynchronous else ScriptedLLM)(script, meta_template=family)

    def complete(*args, **options):
        completion = llm.complete(*args, **options)
        return asyncio.run(completion) if asynchronous else completion

    dialog = [ASKED]
    for turn in ([ASKED], [RESULT], [ASKED], [RESULT]):
        complete(turn, **(OPEN if turn is not RESULT and len(dialog) == 1 else CONTINUE))
        completion = complete(dialog)
        in_session, own = (request.prompt for request in llm.requests[-2:])
        assert in_session == own == llm.template.render(dialog)
        assert script in own or len(dialog) == 1
        assert completion.tool_calls[0].arguments == ARGUMENTS
        assert completion.content == answer
        dialog += [completion.message(), RESULT if len(dialog) % 4 == 1 else ASKED]


@pytest.mark.parametrize("family", WITH_CALLS)
def test_all_forms_of_a_call_give_one_prompt(family):
    template = load_template(family)
    function = {"name": "calculator", "arguments": ARGUMENTS}
    forms = [
        {"type": "function", "function": function},
        {"function": {**function, "arguments": json.dumps(ARGUMENTS)}},
        {"function": {**function, "arguments": json.dumps(ARGUMENTS, separators=(",", ":"))}},
        function,
        ToolCall("calculator", ARGUMENTS),
    ]
    prompts = {template.render(dialog_with(form)) for form in forms}
    assert len(prompts) == 1
    assert called(family) in prompts.pop()
    llm = ScriptedLLM("fine", meta_template=family)
    for form in forms:
        llm.chat(dialog_with(form))
        assert llm.requests[-1].prompt == template.render(dialog_with(forms[0]))


@pytest.mark.parametrize("family", available_templates())
def test_results_of_tools_need_no_tools_in_this_call(family):
    template = load_template(family)
    dialog = [ASKED, {"role": "assistant", "content": "a call"}, RESULT]
    if family not in WITH_RESULTS:  # without a role of their own they are turns as others, or refused
        with contextlib.suppress(TemplateError):
            assert "3927" in template.render(dialog) or template.family.others.word in ("drop", "remove")
        return
    prompt = template.render(dialog)
    assert "3927" in prompt
    if template.family.tools is not None:
        with_tools = template.render(dialog, tools=TOOLS)
        assert prompt[prompt.index("231") :] == with_tools[with_tools.index("231") :]


@pytest.mark.parametrize("role", ["tool", "environment", "function"])
@pytest.mark.parametrize("family", WITH_RESULTS)
def test_the_roles_of_results_mean_the_same(family, role):
    llm = ScriptedLLM("fine", meta_template=family)
    dialog = [ASKED, {"role": "assistant", "content": "a call"}, {"role": role, "content": "3927"}]
    llm.chat(dialog)
    known = role if role in llm.template.result_roles else llm.template.result_roles[0]
    assert llm.requests[0].prompt == llm.template.render([*dialog[:2], {"role": known, "content": "3927"}])
    assert "3927" in llm.requests[0].prompt


@pytest.mark.parametrize("guard", [None, "refuse"])
def test_lagents_own_template_takes_openais_messages(guard):
    template = load_template(INTERNLM2_META)
    llm = ScriptedLLM("fine", meta_template=template if guard is None else template.guarded(guard))
    llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)), tools=TOOLS)
    assert llm.requests[0].prompt == (
        "<|im_start|>system name=<|plugin|>\n"
        '[{"name": "calculator", "parameters": {"type": "object"}}]<|im_end|>\n'
        "<|im_start|>user\nWhat is 231 * 17?<|im_end|>\n"
        "<|im_start|>assistant\n<|action_start|><|plugin|>\n"
        '{"name": "calculator", "parameters": {"expression": "231 * 17", "unit": "é"}}<|action_end|>'
        "<|im_end|>\n"
        "<|im_start|>environment name=<|plugin|>\n3927<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_session_keeps_reasoning_where_the_template_wants_it():
    llm = ScriptedLLM(f"<think>\nsum\n</think>\n\n{called('qwen3')}", meta_template="qwen3")
    llm.chat([ASKED], **OPEN)
    llm.chat([RESULT], **CONTINUE)
    assert f"<think>\nsum\n</think>\n\n{called('qwen3')}<|im_end|>" in llm.requests[-1].prompt
    llm.chat([ASKED], **CONTINUE)
    assert "sum" not in llm.requests[-1].prompt


def test_a_session_of_messages_without_a_template_keeps_tool_calls():
    class ServerLLM(ScriptedLLM):
        takes_messages = True

    def answer(request):
        return "fine"

    llm = ServerLLM(answer)
    llm.chat([ASKED], **OPEN)
    (session,) = llm.sessions._sessions.values()
    assert session.history.messages == (ASKED, {"role": "assistant", "content": "fine"})
    llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)), **OPEN)
    call = {"id": "call00000", **ToolCall("calculator", ARGUMENTS).to_openai()}
    assert llm.requests[-1].messages == [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {**RESULT, "tool_call_id": "call00000"},
    ]


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("llama-3.1", '{"name": "calculator", "parameters": {"x": 1}}'),
        ("phi-4-mini", '<|tool_call|>[{"name": "calculator", "arguments": {"x": 1}}]<|/tool_call|>'),
        (
            "deepseek-v3",
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>calculator\n```json\n"
            '{"x": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        ),
    ],
)
def test_families_without_a_form_for_calls_keep_the_text_of_an_answer(family, text):
    llm = ScriptedLLM(text, meta_template=family)
    answer = llm.complete([ASKED], **OPEN)
    assert answer.tool_calls == (ToolCall("calculator", {"x": 1}),)
    llm.chat([RESULT], **CONTINUE)
    llm.chat([ASKED, answer, RESULT])
    expected = llm.template.render([ASKED, {"role": "assistant", "content": text}, RESULT])
    assert [request.prompt for request in llm.requests[1:]] == [expected, expected]
    with pytest.raises(TemplateError, match=r"messages\[1\] .*give the text of the answer as"):
        llm.chat([ASKED, answer.message(), RESULT])


def test_a_family_without_a_form_for_calls_says_so():
    llm = ScriptedLLM("fine", meta_template="llama-3")
    with pytest.raises(TemplateError, match=r"messages\[1\] .*no format for tool_calls"):
        llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)))
