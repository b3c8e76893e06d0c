"""Reasoning and calls of tools in the answers of a backend, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lagent_llms.errors import InvalidArgument, TemplateError
from lagent_llms.schema import Completion, StreamChunk, ToolCall
from lagent_llms.templates import load_template
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

USER = [{"role": "user", "content": "What is the weather in Zürich?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
ANSWER = f"<think>\nhm\n</think>\n\nLet me see.\n{CALL}"
CALLS = (ToolCall("weather", {"city": "Zürich"}),)


async def ask(
    answer: str, inputs: Any = USER, size: int = 3, asynchronous: bool = False, **options: Any
) -> tuple[Completion, list[StreamChunk]]:
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    if asynchronous:
        llm = AsyncScriptedLLM(pieces, **options)
        stream = llm.stream_generate if isinstance(inputs, str) else llm.stream_chat
        return await llm.complete(inputs), [chunk async for chunk in stream(inputs)]
    client = ScriptedLLM(pieces, **options)
    start = client.stream_generate if isinstance(inputs, str) else client.stream_chat
    return client.complete(inputs), list(start(inputs))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_a_stream_says_what_the_whole_answer_says(asynchronous: bool, size: int) -> None:
    found, chunks = await ask(ANSWER, size=size, asynchronous=asynchronous, meta_template="qwen3")
    assert (found.reasoning, found.text) == ("hm", f"Let me see.\n{CALL}")
    assert (found.content, found.raw_text) == ("Let me see.", ANSWER)
    assert (found.tool_calls, found.finish_reason) == (CALLS, "tool_calls")
    assert chunks[-1].completion == found
    assert "".join(chunk.reasoning for chunk in chunks) == "hm"
    assert "".join(chunk.delta for chunk in chunks) == found.text == chunks[-1].text
    assert "".join(chunk.content for chunk in chunks) == found.content
    parts = [part for chunk in chunks for part in chunk.tool_calls]
    assert "".join(part.name for part in parts) == "weather"
    assert json.loads("".join(part.arguments for part in parts)) == {"city": "Zürich"}
    last = max(at for at, chunk in enumerate(chunks) if chunk.reasoning)
    assert not any(chunk.delta for chunk in chunks[:last])
    if size == 1:
        assert sum(bool(part.arguments) for part in parts) > 10


async def test_reasoning_that_the_prompt_begins() -> None:
    for family in ("deepseek-r1", "deepseek-r1-distill"):
        found, _ = await ask("hm</think>\n\nFour.", meta_template=family)
        assert (found.reasoning, found.text, found.raw_text) == ("hm", "Four.", "hm</think>\n\nFour.")
    found, chunks = await ask("hm, and hm", meta_template="deepseek-r1", finish_reason="length")
    assert (found.reasoning, found.text, found.finish_reason) == ("hm, and hm", "", "length")
    assert chunks[-1].text == ""
    found, _ = await ask("Four.", meta_template="qwen3-nothink")
    assert (found.reasoning, found.text) == ("", "Four.")


async def test_a_message_to_continue_in_the_middle_of_reasoning() -> None:
    meta = [
        {"role": "user", "begin": "<U>", "end": "</U>"},
        {"role": "assistant", "begin": "<A>", "end": "</A>", "generate": True},
    ]
    dialog = [*USER, {"role": "assistant", "content": "<think>\nhalf a"}]
    found, _ = await ask(
        " thought</think>Four.", dialog, meta_template=meta, reasoning=("<think>", "</think>")
    )
    assert (found.reasoning, found.text) == (" thought", "Four.")


async def test_stop_words_apply_to_reasoning_as_well() -> None:
    found, _ = await ask(ANSWER, meta_template="qwen3", stop_words=["hm"])
    assert (found.reasoning, found.text, found.stop_word) == ("", "", "hm")


@pytest.mark.parametrize("reasoning", [None, "none"])
async def test_what_is_not_wanted_is_not_read(reasoning: Any) -> None:
    found, chunks = await ask(ANSWER, meta_template="qwen3", reasoning=reasoning, tool_parser=None)
    assert (found.text, found.content, found.raw_text) == (ANSWER,) * 3
    assert (found.reasoning, found.tool_calls, found.finish_reason) == ("", (), "stop")
    assert not any(chunk.reasoning or chunk.tool_calls for chunk in chunks)


async def test_the_answer_to_a_bare_prompt_is_not_read() -> None:
    found, chunks = await ask(ANSWER, "Question", meta_template="qwen3")
    assert (found.text, found.content, found.reasoning, found.tool_calls) == (ANSWER, ANSWER, "", ())
    assert type(chunks[0]) is StreamChunk


async def test_formats_by_argument() -> None:
    found, _ = await ask("[TOOL_CALLS]weather{}", meta_template="chatml", tool_parser="mistral")
    assert (found.content, found.tool_calls) == ("", (ToolCall("weather", {}),))
    found, _ = await ask("(hm)Four.", meta_template="chatml", reasoning=["(", ")"])
    assert (found.reasoning, found.text) == ("hm", "Four.")


@pytest.mark.parametrize("kind", [ScriptedLLM, AsyncScriptedLLM])
def test_wrong_arguments_are_refused_at_once(kind: Any) -> None:
    with pytest.raises(InvalidArgument, match="'mistrall': no such parser, did you mean 'mistral'"):
        kind("x", tool_parser="mistrall")
    with pytest.raises(InvalidArgument, match=r"reasoning=\('<think>',\): allowed is 'auto', 'none', None"):
        kind("x", reasoning=("<think>",))
    llm = kind("x", meta_template="chatml")
    with pytest.raises(InvalidArgument, match="tool_parser='no': no such parser"):
        llm.stream_chat(USER, tool_parser="no")
    assert llm.requests == []


def test_families_name_their_formats() -> None:
    with pytest.raises(TemplateError, match="mine: tool_parser='mistrall': no such parser"):
        load_template({"family": "mine", "roles": {"user": {}}, "tool_parser": "mistrall"})
    for family, text in {
        "llama-3.1": '{"name": "f", "parameters": {}}',
        "mistral-nemo": '[TOOL_CALLS][{"name": "f", "arguments": {}}]',
        "deepseek-v3": "<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>",
        "granite-3.3": '<|tool_call|>[{"name": "f", "arguments": {}}]',
        "phi-4-mini": '<|tool_call|>[{"name": "f", "arguments": {}}]<|/tool_call|>',
        "lfm2": "<|tool_call_start|>[f()]<|tool_call_end|>",
    }.items():
        template = load_template(family)
        assert template is not None
        assert template.parse_tool_calls(text) == ("", (ToolCall("f", {}),))
        assert template.guarded("refuse").parse_tool_calls(text)[1] == (ToolCall("f", {}),)
