"""Answers with calls of tools, in the forms that the documentation and the chat templates of models show."""

from __future__ import annotations

from typing import Any

from lagent_llms.schema import ToolCall

ARGUMENTS: dict[str, Any] = {"city": 'Zürich </tool_call> } "x"', "days": [1, {"at": None}]}
OBJECT = '{"city": "Zürich </tool_call> } \\"x\\"", "days": [1, {"at": null}]}'
JSON = f'{{"name": "weather", "arguments": {OBJECT}}}'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            },
        },
    }
]
CALL = ToolCall("weather", ARGUMENTS)
#: Arguments of formats that write them one by one.
TYPED = ToolCall("weather", {"city": "12\nmiles", "days": 3, "unit": ["C", True]})
EMPTY = ToolCall("now", {})

_DEEPSEEK = f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{OBJECT}\n```<｜tool▁call▁end｜>"
_V3_1 = f"<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{OBJECT}<｜tool▁call▁end｜>"
_HERMES = f"<tool_call>{JSON}</tool_call>"
_COMMENTARY = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>"

#: Parser, answer, content, calls.
EXAMPLES: list[tuple[str, str, str, list[ToolCall]]] = [
    ("hermes", f"Let me see.\n<tool_call>\n{JSON}\n</tool_call>", "Let me see.", [CALL]),
    ("hermes", f"A <tool_call>\n{JSON}\n</tool_call>\n{_HERMES}\n B", "A B", [CALL, CALL]),
    ("internlm2", f"Hm.<|action_start|><|plugin|>\n{JSON}<|action_end|>\n", "Hm.", [CALL]),
    ("qwen3-coder",
     "Ok.\n\n<tool_call>\n<function=weather>\n<parameter=city>\n12\nmiles\n</parameter>\n<parameter=days>\n3\n"
     '</parameter>\n<parameter=unit>\n["C", true]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n'
     "<function=now>\n</function>\n</tool_call>", "Ok.", [TYPED, EMPTY]),
    ("qwen3-coder", "<function=now>\n</function>\n</tool_call>", "", [EMPTY]),
    ("seed-oss",
     "<seed:tool_call>\n<function=weather>\n<parameter=city>12\nmiles</parameter>\n<parameter=days>3</parameter>"
     "\n<parameter=unit>['C', True]</parameter>\n</function>\n</seed:tool_call>", "", [TYPED]),
    ("glm-4.5",
     "\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>12\nmiles</arg_value>\n<arg_key>days</arg_key>\n"
     '<arg_value>3</arg_value>\n<arg_key>unit</arg_key>\n<arg_value>["C", true]</arg_value>\n</tool_call>\n'
     "<tool_call>now\n</tool_call>", "", [TYPED, EMPTY]),
    ("minimax-m2",
     '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">12\nmiles</parameter>\n'
     '<parameter name="days">3</parameter>\n<parameter name="unit">["C", true]</parameter>\n</invoke>\n'
     '<invoke name="now">\n</invoke>\n</minimax:tool_call>', "", [TYPED, EMPTY]),
    ("deepseek-v3.2",
     '\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="weather">\n'
     '<｜DSML｜parameter name="city" string="true">'
     '12\nmiles</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3</｜DSML｜parameter>\n'
     '<｜DSML｜parameter name="unit" string="false">["C", true]</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
     "</｜DSML｜function_calls>", "", [TYPED]),
    ("mistral", f'[TOOL_CALLS] [{{"name": "weather", "arguments": {OBJECT}, "id": "abcdefgh1"}}, {JSON}]', "",
     [ToolCall("weather", ARGUMENTS, "abcdefgh1"), CALL]),
    ("mistral", f"Hi[TOOL_CALLS]weather{OBJECT}[TOOL_CALLS]now{{}}", "Hi", [CALL, EMPTY]),
    ("mistral", f"[TOOL_CALLS]weather[CALL_ID]abcdefgh1[ARGS]{OBJECT}", "",
     [ToolCall("weather", ARGUMENTS, "abcdefgh1")]),
    ("mistral", f"[TOOL_CALLS]weather[ARGS]{OBJECT}", "", [CALL]),
    ("deepseek-v3", f"<｜tool▁calls▁begin｜>{_DEEPSEEK}\n{_DEEPSEEK}<｜tool▁calls▁end｜>", "", [CALL, CALL]),
    ("deepseek-v3",
     f"Hm.<｜tool▁calls▁begin｜>{_V3_1}<｜tool▁calls▁end｜>",
     "Hm.", [CALL]),
    ("kimi-k2",
     "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
     f"{OBJECT}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{{}}"
     "<|tool_call_end|><|tool_calls_section_end|>", "",
     [ToolCall("weather", ARGUMENTS, "functions.weather:0"), ToolCall("now", {}, "functions.now:1")]),
    ("gpt-oss", f"{_COMMENTARY}{OBJECT}<|call|>", "",
     [CALL]),
    ("gpt-oss", f" to=functions.weather<|channel|>commentary json<|message|>{OBJECT}", "", [CALL]),
    ("command-r7b",
     f'<|START_ACTION|>[\n    {{"tool_call_id": "0", "tool_name": "weather", "parameters": {OBJECT}}}\n]'
     "<|END_ACTION|>", "", [ToolCall("weather", ARGUMENTS, "0")]),
    ("granite", f'<|tool_call|>[{{"arguments": {OBJECT}, "name": "weather"}}]', "", [CALL]),
    ("granite", f"[{JSON}]", "", [CALL]),
    ("phi-4-mini", f"<|tool_call|>[{JSON}]<|/tool_call|>", "", [CALL]),
    ("phi-4-mini", f"functools[{JSON}, {JSON}]", "", [CALL, CALL]),
    ("hunyuan", f"<tool_calls>[{JSON}]</tool_calls>", "", [CALL]),
    ("hunyuan", f"<tool_calls>\n{JSON}\n{JSON}\n</tool_calls>", "", [CALL, CALL]),
    ("nemotron-nano", f"<TOOLCALL>[{JSON}]</TOOLCALL>", "", [CALL]),
    ("functiongemma",
     "<start_function_call>call:weather{city:<escape>Zürich, } \"<escape>,days:<escape>3<escape>}"
     "<end_function_call>", "", [ToolCall("weather", {"city": 'Zürich, } "', "days": 3})]),
    ("gemma-4", '<|tool_call>call:weather{city:<|"|>Zürich }<|"|>,days:3,deep:{a:[1,true]}}<tool_call|>', "",
     [ToolCall("weather", {"city": "Zürich }", "days": 3, "deep": {"a": [1, True]}})]),
    ("lfm2", "<|tool_call_start|>[weather(city='Zürich ]', days=-3, deep={\"a\": [1, True]}), now()]"
     "<|tool_call_end|>Done.", "Done.",
     [ToolCall("weather", {"city": "Zürich ]", "days": -3, "deep": {"a": [1, True]}}), EMPTY]),
    ("llama-3", f'{{"name": "weather", "parameters": {OBJECT}}}', "", [CALL]),
    ("llama-3", f"<|python_tag|>{JSON}; {JSON}", "", [CALL, CALL]),
    ("xlam", f"[{JSON}, {JSON}]", "", [CALL, CALL]),
    ("pythonic", '[weather.today(city="[", days=None), now()]', "",
     [ToolCall("weather.today", {"city": "[", "days": None}), EMPTY]),
]  # fmt: skip
