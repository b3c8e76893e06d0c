"""LangChain's ChatOpenAI over any backend: `lagent-llms serve` offers it as an OpenAI-style API.

lagent-llms serve --config llm.yaml        # in another terminal
python examples/langchain_agent.py         # --url http://127.0.0.1:8000/v1
"""

import argparse

from calculator import calculator as compute
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def calculator(expression: str) -> str:
    """Compute an arithmetic expression."""
    return compute(expression)


def answer(llm: ChatOpenAI, question: str, max_turns: int = 4) -> str:
    """Run LangChain's loop with a tool: ask, run the called tools, ask again."""
    with_tools = llm.bind_tools([calculator])
    messages = [HumanMessage(question)]
    for _ in range(max_turns):
        reply = with_tools.invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            break
        for call in reply.tool_calls:
            result = calculator.invoke(call["args"])
            print(f"[{call['name']}: {call['args']['expression']} = {result}]")
            messages.append(ToolMessage(result, tool_call_id=call["id"]))
    return str(messages[-1].content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="What is 231 * 17?")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    llm = ChatOpenAI(model=arguments.model, base_url=arguments.url, api_key="none", temperature=0)
    print(answer(llm, arguments.question))


if __name__ == "__main__":
    main()
