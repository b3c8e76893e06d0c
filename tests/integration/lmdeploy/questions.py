"""Prompts of the tests."""

import json


def user(text):
    return [{"role": "user", "content": text}]


FRANCE = user("What is the capital of France?")
PARIS = "The capital of France is Paris."
COUNT = user("Count from 1 to 60.")
CALCULATOR = {
    "name": "calculator",
    "description": "Evaluate an arithmetic expression.",
    "parameters": {"expression": {"type": "string", "description": "for example 2 * (3 + 4)"}},
}
CALCULATE = [
    {"role": "system", "name": "plugin", "content": json.dumps([CALCULATOR])},
    {"role": "user", "content": "What is 231 * 17?"},
]
#: Dialogs compared with the JAX engine: words, digits, Chinese, JSON, a tool call.
DIALOGS = [
    FRANCE,
    COUNT,
    CALCULATE,
    user("What is the capital of Japan?"),
    user("What is 3 + 4?"),
    user("你好"),
    user("Spell the word house."),
    [{"role": "system", "content": "You are Luna, a helpful assistant."}, *user("Who are you?")],
    [*user("My name is Alice."), {"role": "assistant", "content": "Nice to meet you, Alice!"},
     *user("What is my name?")],
]  # fmt: skip
