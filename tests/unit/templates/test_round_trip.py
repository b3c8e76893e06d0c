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
RESULT_WITH_ID = {**RESULT, "tool_call_id": "call00000"}
TOOLS = [{"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}}]
WITH_CALLS = [name for name in available_templates() if load_template(name).tool_call is not None]
WITH_TEXT_AND_CALLS = [name for name in WITH_CALLS if not load_template(name).tool_call.replaces]
WITH_RESULTS = [name for name in available_templates() if load_template(name).result_roles]
OPEN = {"session_id": 1, "sequence_start": True, "sequence_end": False}
CONTINUE = {"session_id": 1, "sequence_start": False, "sequence_end": False}


def called(family, text=""):
    """Return an answer with a tool call, as a model of the family writes it."""
    call = ToolCall("calculator", ARGUMENTS, id="call00000").to_openai()
    return text + load_template(family).tool_call.write([call], "", after_content=bool(text))


def dialog_with(*calls):
    return [ASKED, {"role": "assistant", "content": None, "tool_calls": [*calls]}, RESULT]


def test_every_family_whose_calls_are_read_can_write_them():
    parsed = {name for name in available_templates() if load_template(name).answer_marks().calls is not None}
    assert parsed == {*WITH_CALLS}


def test_every_family_with_tools_is_tested():
    tools = {name for name in available_templates() if load_template(name).family.tools is not None}
    assert tools <= {*WITH_CALLS} & {*WITH_RESULTS}
    assert len(WITH_RESULTS) > 10


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("family", "answer"),
    [(name, "") for name in WITH_CALLS] + [(name, "Let me see.") for name in WITH_TEXT_AND_CALLS],
)
def test_a_session_and_the_callers_own_dialog_have_the_same_prompts(family, asynchronous, answer):
    script = called(family, answer)
    llm = (AsyncScriptedLLM if asynchronous else ScriptedLLM)(script, meta_template=family, reasoning=None)

    def complete(*args, **options):
        completion = llm.complete(*args, **options)
        return asyncio.run(completion) if asynchronous else completion

    dialog = [ASKED]
    turns = ([ASKED], [RESULT], [ASKED], [RESULT])
    for turn in turns[:2] if llm.template.family.alternation else turns:
        complete(turn, **(OPEN if turn is not RESULT and len(dialog) == 1 else CONTINUE))
        completion = complete(dialog)
        in_session, own = (request.prompt for request in llm.requests[-2:])
        assert in_session == own == llm.template.render(llm.template.adapted(dialog))
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
        assert llm.requests[-1].prompt == template.render(template.adapted(dialog_with(forms[0])))


@pytest.mark.parametrize("family", available_templates())
def test_results_of_tools_need_no_tools_in_this_call(family):
    template = load_template(family)
    dialog = [ASKED, {"role": "assistant", "content": "a call"}, RESULT_WITH_ID]
    if family not in WITH_RESULTS:  # without a role of their own they are turns as others, or refused
        with contextlib.suppress(TemplateError):
            assert "3927" in template.render(dialog) or template.family.others.word in ("drop", "remove")
        return
    prompt = template.render(template.adapted(dialog))
    assert "3927" in prompt
    if template.family.tools is not None:
        with_tools = template.render(dialog, tools=TOOLS)
        assert prompt[prompt.index("231") :] == with_tools[with_tools.index("231") :]


@pytest.mark.parametrize("role", ["tool", "environment", "function"])
@pytest.mark.parametrize("family", WITH_RESULTS)
def test_the_roles_of_results_mean_the_same(family, role):
    llm = ScriptedLLM("fine", meta_template=family)
    dialog = [ASKED, {"role": "assistant", "content": "a call"}, {**RESULT_WITH_ID, "role": role}]
    llm.chat(dialog)
    known = role if role in llm.template.result_roles else llm.template.result_roles[0]
    assert llm.requests[0].prompt == llm.template.render([*dialog[:2], {**RESULT_WITH_ID, "role": known}])
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


CALCULATE = '{"name": "calculator", "arguments": {"expression": "231 * 17", "unit": "é"}}'
MISTRAL = CALCULATE[:-1] + ', "id": "call00000"}'
DEEPSEEK = (
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>calculator\n```json\n"
    '{"expression": "231 * 17", "unit": "é"}\n```<｜tool▁call▁end｜>'
)
LLAMA = "<|end_header_id|>\n\n" + CALCULATE.replace("arguments", "parameters")
IPYTHON = "<|start_header_id|>ipython<|end_header_id|>\n\n"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama-3.1", f'{LLAMA}<|eot_id|>{IPYTHON}"3927"<|eot_id|>'),
        ("llama-3.2", f'{LLAMA}<|eot_id|>{IPYTHON}"3927"<|eot_id|>'),
        ("mistral-nemo", f'[/INST][TOOL_CALLS][{MISTRAL}]</s>[TOOL_RESULTS]{{"content": 3927, '
         '"call_id": "call00000"}[/TOOL_RESULTS]'),
        ("mistral-v0.3", f'[/INST][TOOL_CALLS] [{MISTRAL}]</s>[TOOL_RESULTS] {{"content": 3927, '
         '"call_id": "call00000"}[/TOOL_RESULTS]'),
        ("mistral-large-2411", f"[/INST][TOOL_CALLS] [{MISTRAL}]</s>"
         "[TOOL_RESULTS] call00000[TOOL_CONTENT] 3927[/TOOL_RESULTS]"),
        ("mistral-small-2501", f"[/INST][TOOL_CALLS][{MISTRAL}]</s>"
         "[TOOL_RESULTS]call00000[TOOL_CONTENT]3927[/TOOL_RESULTS]"),
        *((name, f"<｜Assistant｜><｜tool▁calls▁begin｜>{DEEPSEEK}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
           "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>3927<｜tool▁output▁end｜><｜tool▁outputs▁end｜>")
          for name in ("deepseek-r1", "deepseek-r1-distill", "deepseek-v3")),
        ("granite-3.0", f"<|tool_call|>[{CALCULATE}]<|end_of_text|>\n"
         "<|start_of_role|>tool_response<|end_of_role|>3927<|end_of_text|>"),
        ("granite-3.3", f"<|tool_call|>[{CALCULATE}]<|end_of_text|>\n"
         "<|start_of_role|>tool<|end_of_role|>3927<|end_of_text|>"),
        ("phi-4-mini", f"<|tool_call|>[{CALCULATE}]<|/tool_call|><|end|><|tool|>3927<|end|>"),
        ("lfm2", '<|tool_call_start|>[calculator(expression="231 * 17", unit="é")]<|tool_call_end|>'
         "<|im_end|>\n<|im_start|>tool\n<|tool_response_start|>3927<|tool_response_end|><|im_end|>"),
    ],
)  # fmt: skip
def test_calls_and_results_have_the_form_of_the_family(family, expected):
    llm = ScriptedLLM("fine", meta_template=family)
    llm.chat(dialog_with(ToolCall("calculator", ARGUMENTS)))
    assert expected in llm.requests[0].prompt


def rounds(*messages):
    """Return a dialog of a question and answers; a number is that many calls, followed by their results."""
    dialog = []
    for message in messages:
        if isinstance(message, int):
            calls = [ToolCall("f", {"x": place}, id=f"call0000{place}") for place in range(message)]
            dialog.append({"role": "assistant", "content": None, "tool_calls": calls})
            dialog += [
                {"role": "tool", "content": f"R{call.id[-1]}", "tool_call_id": call.id} for call in calls
            ]
        else:
            dialog.append({"role": "assistant" if dialog else "user", "content": message})
    return dialog


@pytest.mark.parametrize(
    ("family", "between"), [("deepseek-r1", ""), ("deepseek-v3", ""), ("deepseek-r1-distill", "\n")]
)
def test_every_round_of_deepseek_has_its_marks(family, between):
    def call(place):
        return (
            f'<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{{"x": {place}}}\n```<｜tool▁call▁end｜>'
        )

    one, two = f"<｜tool▁calls▁begin｜>{call(0)}", f"\n{call(1)}"
    end = "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>"
    first, second = (f"<｜tool▁output▁begin｜>R{place}<｜tool▁output▁end｜>" for place in (0, 1))
    results, done = "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"
    text = load_template(family).render(rounds("Q", 1, 2, "A", 1), add_generation_prompt=False)
    assert text == (
        f"<｜begin▁of▁sentence｜><｜User｜>Q<｜Assistant｜>{one}{end}{results}{first}{done}"
        f"{one}{two}{end}{results}{first}{between}{second}{done}"
        f"A<｜end▁of▁sentence｜><｜Assistant｜>{one}{end}{results}{first}{done}"
    )


def test_deepseek_keeps_the_text_before_a_call():
    dialog = dialog_with(ToolCall("calculator", ARGUMENTS))
    dialog[1]["content"] = "<think>\nsum\n</think>\n\nLet me see."
    for family in ("deepseek-r1", "deepseek-v3"):
        assert f"<｜Assistant｜>{dialog[1]['content']}<｜tool▁calls▁begin｜>" in load_template(family).render(
            dialog
        )


@pytest.mark.parametrize(("family", "space"), [("mistral-large-2411", " "), ("mistral-small-2501", "")])
def test_mistral_writes_calls_after_the_content(family, space):
    dialog = rounds("Q", 2, "A", 1)
    dialog[1]["content"] = "Let me see."
    calls = [f'{{"name": "f", "arguments": {{"x": {place}}}, "id": "call0000{place}"}}' for place in (0, 1)]
    results = [
        f"[TOOL_RESULTS]{space}call0000{place}[TOOL_CONTENT]{space}R{place}[/TOOL_RESULTS]"
        for place in (0, 1)
    ]
    text = load_template(family).render(dialog)
    assert text[text.index("[INST]") :] == (
        f"[INST]{space}Q[/INST]{space}Let me see.[TOOL_CALLS]{space}[{', '.join(calls)}]</s>"
        f"{''.join(results)}"
        f"{space}A</s>[TOOL_CALLS]{space}[{calls[0]}]</s>{results[0]}"
    )


@pytest.mark.parametrize("family", WITH_CALLS)
def test_several_calls_are_read_as_they_were_written(family):
    calls = [ToolCall("calculator", ARGUMENTS), ToolCall("clock", {"zone": None, "at": [1, True]})]
    template = load_template(family)
    written = template.tool_call.write([call.to_openai() for call in calls], "", after_content=False)
    text, found = template.parse_tool_calls(written)
    assert [(call.name, call.arguments) for call in found] == [(call.name, call.arguments) for call in calls]
    assert text in ("", "</s>")


def test_calls_and_results_of_mistral_do_not_count_as_turns():
    template = load_template("mistral-nemo")
    dialog = [
        *dialog_with(ToolCall("calculator", ARGUMENTS)),
        {"role": "assistant", "content": "fine"},
        ASKED,
    ]
    assert template.render(dialog).endswith("[/TOOL_RESULTS]fine</s>[INST]What is 231 * 17?[/INST]")
    with pytest.raises(TemplateError, match=r"messages\[1\] .*a result needs 'tool_call_id'"):
        template.render([ASKED, RESULT])


@pytest.mark.parametrize("tool_parser", ["hermes", "xlam", "pythonic"])
def test_a_family_that_names_only_its_parser_writes_what_that_reads(tool_parser, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f'tool_parser: {tool_parser}\nroles: {{"*": {{begin: "{{role}}: ", end: "\\n"}}}}')
    template = load_template(path)
    text = template.render(dialog_with(ToolCall("calculator", ARGUMENTS)), add_generation_prompt=False)
    (call,) = template.parse_tool_calls(text.partition("assistant: ")[2])[1]
    assert (call.name, call.arguments) == ("calculator", ARGUMENTS)


def test_a_family_writes_arguments_one_by_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(r"""
tool_parser: qwen3-coder
tool_call:
  begin: "<tool_call>\n"
  call: "<function={name}>\n{arguments}</function>"
  argument: "<parameter={key}>\n{value}\n</parameter>\n"
  end: "\n</tool_call>"
  separator: "\n"
roles: {"*": {begin: "{role}: ", end: "\n"}}
""")
    template = load_template(path)
    call = ToolCall("clock", {"zone": 'é "x"', "at": [1, True], "day": None})
    text = template.render(dialog_with(call, call), add_generation_prompt=False).partition("assistant: ")[2]
    one = (
        '<tool_call>\n<function=clock>\n<parameter=zone>\né "x"\n</parameter>\n<parameter=at>\n[1, true]\n'
        "</parameter>\n<parameter=day>\nnull\n</parameter>\n</function>\n</tool_call>"
    )
    assert text.startswith(f"{one}\n{one}\ntool: ")
    assert [*template.parse_tool_calls(f"{one}\n{one}")[1]] == [call, call]


@pytest.mark.parametrize("tool_parser", ["mistral", "kimi-k2", "glm-4.5", "deepseek-v3"])
def test_a_family_whose_parser_reads_several_spellings_must_have_one(tool_parser, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f'tool_parser: {tool_parser}\nroles: {{"*": {{begin: "{{role}}: ", end: "\\n"}}}}')
    template = load_template(path)
    with pytest.raises(TemplateError, match=r"messages\[1\] .*say in a section 'tool_call'"):
        template.render(dialog_with(ToolCall("calculator", ARGUMENTS)))


def test_families_without_a_form_for_calls_keep_the_text_of_an_answer():
    text = '{"name": "calculator", "parameters": {"x": 1}}'
    llm = ScriptedLLM(text, meta_template="llama-3", tool_parser="llama-3")
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
