"""An offline agent loop: the model calls the calculator, the tool runs, the model answers.

    python examples/agent_loop.py "What is 231 * 17?"

It works with any model trained in InternLM2's tool format: give a configuration of its backend with --config.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from calculator import calculator

from lagent_llms import BaseLLM, ToolCall, create_llm

CALCULATOR = {
    "name": "calculator",
    "description": "Evaluate an arithmetic expression.",
    "parameters": {"expression": {"type": "string", "description": "for example 2 * (3 + 4)"}},
}


def run_tool(call: ToolCall) -> str:
    """Return the result of the tool, or an error message for the model."""
    if call.name != "calculator":
        return f"error: there is no tool {call.name}"
    try:
        return calculator(str(call.arguments.get("expression", "")))
    except (ValueError, ZeroDivisionError) as error:
        return f"error: {error}"


def answer(llm: BaseLLM, question: str, max_turns: int = 4) -> Iterator[str]:
    """Call model and tool in turns until the model answers without a tool call; yield the text."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "system", "name": "plugin", "content": json.dumps([CALCULATOR])},
        {"role": "user", "content": question},
    ]
    for _ in range(max_turns):
        stream = llm.stream_chat(messages)
        for chunk in stream:
            yield chunk.delta
        yield "\n"
        completion = stream.completion
        if completion is None or not completion.tool_calls:
            return
        messages.append({"role": "assistant", "content": completion.text})
        for call in completion.tool_calls:
            result = run_tool(call)
            yield f"[{call.name}: {result}]\n"
            messages.append({"role": "environment", "name": "plugin", "content": result})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="What is 231 * 17?")
    parser.add_argument(
        "--config", help="a YAML or TOML file that configures the backend; default: the embedded model"
    )
    arguments = parser.parse_args()
    with create_llm(arguments.config) as llm:
        for text in answer(llm, arguments.question):
            print(text, end="", flush=True)


if __name__ == "__main__":
    main()
