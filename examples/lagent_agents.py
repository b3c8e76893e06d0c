"""lagent's own agents, unchanged, over any backend: only the model is replaced.

python examples/lagent_agents.py                     the embedded model
python examples/lagent_agents.py --config llm.yaml   the backend of the file
"""

import argparse
import asyncio

from lagent.actions import BaseAction, tool_api
from lagent.agents import Agent, AsyncAgent, AsyncStreamingAgent, StreamingAgent
from lagent.agents.stream import AgentForInternLM, AsyncAgentForInternLM, get_plugin_prompt
from lagent.prompts.parsers import PluginParser

from lagent_llms import create_llm


class Calculator(BaseAction):
    """The tool."""

    @tool_api
    def run(self, expression: str) -> str:
        """Compute an arithmetic expression.

        Args:
            expression (str): expression, for example 2 * (3 + 4)
        """
        from calculator import calculator

        return calculator(expression)


CALCULATOR = Calculator(description={**Calculator().description, "name": "calculator"})
TOOLS = {
    "plugins": [CALCULATOR],
    # The embedded model ends a call without a newline; InternLM2 itself needs no `end`.
    "output_format": {
        "type": PluginParser,
        "template": "{prompt}",
        "prompt": get_plugin_prompt(CALCULATOR),
        "end": "<|action_end|>",
    },
}


def synchronous(llm, question: str, sum_: str) -> None:
    print("Agent:", Agent(llm=llm)(question).content)
    for message in StreamingAgent(llm=llm)(question):
        print("StreamingAgent:", message.stream_state.name, message.content)
    agent = AgentForInternLM(llm=llm, **TOOLS)
    print("AgentForInternLM:", agent(sum_).content)
    for step in agent.get_steps():
        print("   ", step)
    both = Agent(llm=llm)
    both("My name is Alice.", session_id=7)
    print("Agent, second turn:", both("What is my name?", session_id=7).content)


async def asynchronous(llm, question: str, sum_: str) -> None:
    print("AsyncAgent:", (await AsyncAgent(llm=llm)(question)).content)
    async for message in AsyncStreamingAgent(llm=llm)(question):
        print("AsyncStreamingAgent:", message.stream_state.name, message.content)
    agents = [AsyncAgentForInternLM(llm=llm, **TOOLS) for _ in range(4)]  # at once, on one backend
    for answer in await asyncio.gather(*(agent(sum_) for agent in agents)):
        print("AsyncAgentForInternLM:", answer.content)
    await llm.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", help="which backend; default: the embedded model")
    parser.add_argument("--question", default="What is the capital of France?")
    parser.add_argument("--sum", default="What is 231 * 17?")
    arguments = parser.parse_args()
    with create_llm(arguments.config) as llm:
        synchronous(llm, arguments.question, arguments.sum)
    llm = create_llm(arguments.config, asynchronous=True)
    asyncio.run(asynchronous(llm, arguments.question, arguments.sum))


if __name__ == "__main__":
    main()
