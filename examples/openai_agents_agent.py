"""An agent of openai-agents with a tool, over any backend: `lagent-llms serve` has OpenAI's Responses API.

lagent-llms serve --config llm.yaml          # in another terminal
python examples/openai_agents_agent.py       # --url http://127.0.0.1:8000/v1
"""

import argparse
import asyncio

from agents import Agent, ModelSettings, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from calculator import calculator as compute
from openai import AsyncOpenAI


@function_tool
def calculator(expression: str) -> str:
    """Compute an arithmetic expression.

    Args:
        expression: expression, for example 2 * (3 + 4)
    """
    return compute(expression)


async def run(client: AsyncOpenAI, model: str, question: str) -> str:
    """Answer the question; print the items of the run as they come."""
    agent = Agent(
        name="assistant",
        instructions="You are a helpful assistant.",
        tools=[calculator],
        model=OpenAIResponsesModel(model, client),
        model_settings=ModelSettings(temperature=0),
    )
    # The server keeps the dialog: each request sends only what is new.
    result = Runner.run_streamed(agent, question, max_turns=4, auto_previous_response_id=True)
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            print(f"[{event.name}]")
    return str(result.final_output)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="What is 231 * 17?")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    set_tracing_disabled(True)  # traces would go to OpenAI
    async with AsyncOpenAI(base_url=arguments.url, api_key="none") as client:
        print(await run(client, arguments.model, arguments.question))


if __name__ == "__main__":
    asyncio.run(main())
