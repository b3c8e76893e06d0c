"""A tool loop with the anthropic package, over any backend: `lagent-llms serve` has Anthropic's Messages API.

lagent-llms serve --config llm.yaml       # in another terminal
python examples/anthropic_agent.py        # --url http://127.0.0.1:8000/v1
"""

import argparse

from anthropic import Anthropic
from calculator import calculator as compute

CALCULATOR = {
    "name": "calculator",
    "description": "Compute an arithmetic expression.",
    "input_schema": {
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "expression, for example 2 * (3 + 4)"}
        },
        "required": ["expression"],
    },
}


def answer(client: Anthropic, model: str, question: str, max_turns: int = 4) -> str:
    """Run the loop: ask, run the called tools, ask again."""
    messages = [{"role": "user", "content": question}]
    for _ in range(max_turns):
        with client.messages.stream(
            model=model,
            max_tokens=200,
            system="You are a helpful assistant.",
            messages=messages,
            tools=[CALCULATOR],
            extra_body={"temperature": 0},
        ) as stream:
            reply = stream.get_final_message()
        messages.append({"role": "assistant", "content": reply.content})
        if reply.stop_reason != "tool_use":
            return "".join(block.text for block in reply.content if block.type == "text")
        results = []
        for call in reply.content:
            if call.type == "tool_use":
                result = compute(call.input["expression"])
                print(f"[{call.name}: {call.input['expression']} = {result}]")
                results.append({"type": "tool_result", "tool_use_id": call.id, "content": result})
        messages.append({"role": "user", "content": results})
    return "no answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="What is 231 * 17?")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    with Anthropic(base_url=arguments.url.removesuffix("/v1"), api_key="none") as client:
        print(answer(client, arguments.model, arguments.question))


if __name__ == "__main__":
    main()
