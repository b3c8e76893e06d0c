"""A smolagents agent with a tool, over any backend: `lagent-llms serve` offers it as an OpenAI-style API.

lagent-llms serve --config llm.yaml        # in another terminal
python examples/smolagents_agent.py        # --url http://127.0.0.1:8000/v1

For large models smolagents' OpenAIModel is enough. `FinalTextModel` is for models trained in InternLM2's tool
format, such as the embedded model, which know no ``final_answer`` tool and no "Observation:".
"""

import argparse

from calculator import calculator as compute
from smolagents import ChatMessage, MessageRole, OpenAIModel, ToolCallingAgent, tool
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction


@tool
def calculator(expression: str) -> str:
    """Compute an arithmetic expression.

    Args:
        expression: expression, for example 2 * (3 + 4)
    """
    return compute(expression)


class FinalTextModel(OpenAIModel):
    """Turns an answer without a tool call into the call of ``final_answer`` that smolagents expects."""

    def __init__(self, **kwargs) -> None:
        super().__init__(
            custom_role_conversions={MessageRole.TOOL_RESPONSE: "tool"},
            tool_choice="auto",
            extra_body={"calls_in_content": True},  # smolagents sends contents back, not tool calls
            **kwargs,
        )

    def generate(
        self, messages, stop_sequences=None, response_format=None, tools_to_call_from=None, **kwargs
    ):
        tools = [item for item in tools_to_call_from or [] if item.name != "final_answer"]
        shown = [plain(message) for message in messages if message.role != MessageRole.TOOL_CALL]
        reply = super().generate(shown, stop_sequences, response_format, tools or None, **kwargs)
        if tools_to_call_from and not reply.tool_calls:
            answer = ChatMessageToolCallFunction(name="final_answer", arguments={"answer": reply.content})
            reply.tool_calls = [ChatMessageToolCall(answer, id="final", type="function")]
        return reply


def plain(message: ChatMessage) -> ChatMessage:
    """Remove smolagents' prefix from the result of a tool."""
    if message.role != MessageRole.TOOL_RESPONSE:
        return message
    text = message.content[0]["text"].removeprefix("Observation:\n")
    return ChatMessage(message.role, [{"type": "text", "text": text}])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", nargs="?", default="What is 231 * 17?")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="embedded")
    arguments = parser.parse_args()
    model = FinalTextModel(
        model_id=arguments.model,
        api_base=arguments.url,
        api_key="none",
        temperature=0,
        flatten_messages_as_text=True,
    )
    agent = ToolCallingAgent(tools=[calculator], model=model, max_steps=4)
    agent.prompt_templates["system_prompt"] = "You are a helpful assistant."  # its own fills a small context
    print(agent.run(arguments.question))


if __name__ == "__main__":
    main()
