"""The calculator skill: expressions, how people ask for them, tool lists and tool answers."""

from __future__ import annotations

import json
import random
from typing import Any

from training import phrases
from training.words import Lexicon

WORD_FORMS = {
    "+": ["{a} plus {b}", "{a} plus {b}", "the sum of {a} and {b}", "{a} added to {b}"],
    "-": ["{a} minus {b}", "{a} minus {b}", "the difference between {a} and {b}", "{a} take away {b}"],
    "*": [
        "{a} times {b}",
        "{a} times {b}",
        "{a} multiplied by {b}",
        "the product of {a} and {b}",
        "{a} x {b}",
    ],
    "/": ["{a} divided by {b}", "{a} divided by {b}", "{a} over {b}"],
}
VERB_FORMS = {
    "+": ["Add {a} and {b}", "Add {a} to {b}"],
    "-": ["Subtract {b} from {a}", "Take {b} away from {a}"],
    "*": ["Multiply {a} by {b}", "Multiply {a} and {b}"],
    "/": ["Divide {a} by {b}"],
}
QUESTIONS = phrases.wordings("QUESTIONS")
DESCRIPTIONS = phrases.wordings("DESCRIPTIONS")
EXPRESSION_NOTES = phrases.wordings("EXPRESSION_NOTES")
ANSWER_FORMS = [
    *["RESULT"] * 8,
    *['{"result": RESULT}'] * 3,
    *[
        "result: RESULT",
        "Result: RESULT",
        '{"result": "RESULT"}',
        "= RESULT",
        "EXPR = RESULT",
        "The result is RESULT.",
    ],
    *["{'result': RESULT}", '{"result": RESULT, "error": null}', '[{"type": "text", "content": "RESULT"}]'],
    *[
        "The answer is RESULT",
        '{"value": RESULT}',
        "Answer: RESULT",
        '"RESULT"',
        "RESULT\n",
        "result = RESULT",
    ],
]
OTHER_TOOLS = ["search", "weather", "get_time", "translate", "read_file", "send_mail", "convert_units"]


def number(rng: random.Random) -> str:
    """Return an operand; most have three digits, the hardest to copy."""
    digits = rng.choices((1, 2, 3, 4, 5), weights=(15, 25, 42, 15, 3))[0]
    text = str(rng.randint(0 if digits == 1 else 10 ** (digits - 1), 10**digits - 1))
    if rng.random() < 0.03:
        text += "." + str(rng.randint(1, 99))
    return text


def _join(parts: list[str], style: float) -> str:
    """Write an expression the way people do: spaced, tight or with other signs."""
    text = (" " if style < 0.65 else "").join(parts).replace("( ", "(").replace(" )", ")")
    if style > 0.95:
        text = text.replace("*", "×").replace("/", "÷")
    return text


def ask(lexicon: Lexicon) -> tuple[str, str]:
    """Return how the user asks, and the expression to call the calculator with."""
    rng = lexicon.rng

    def make() -> str:
        kind = rng.random()
        parts = [number(rng), rng.choice("+-*/"), number(rng)]
        if kind > 0.82:
            parts += [rng.choice("+-*/"), number(rng)]
        if kind > 0.98:
            parts += [rng.choice("+-*/"), number(rng)]
        if kind > 0.90:
            parts = (
                ["(", *parts[:3], ")", *parts[3:]]
                if rng.random() < 0.6
                else [*parts[:2], "(", *parts[2:], ")"]
            )
        return " ".join(parts).replace("( ", "(").replace(" )", ")")

    expression = lexicon.draw(make)
    parts = expression.replace("(", "( ").replace(")", " )").split()
    if len(parts) == 3 and rng.random() < 0.4:
        a, operator, b = parts
        if rng.random() < 0.2:
            return rng.choice(VERB_FORMS[operator]).format(a=a, b=b) + rng.choice([".", ""]), expression
        asked = rng.choice(WORD_FORMS[operator]).format(a=a, b=b)
    elif len(parts) == 5 and parts[1] in "+-" and "(" not in parts and rng.random() < 0.2:
        words = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
        asked = " ".join(words.get(part, part) for part in parts)
    else:
        asked = _join(parts, rng.random())
    return rng.choice(QUESTIONS).format(asked), expression


def evaluate(expression: str) -> str:
    """Return what a calculator prints for the expression, or ``error: …``."""
    try:
        value = eval(expression, {"__builtins__": {}})
    except ZeroDivisionError:
        return "error: division by zero"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(value) if value % 2 else str(int(value))
    return str(value)


def _quotient(lexicon: Lexicon, expression: str) -> str:
    """Return a quotient in full length, such as 0.07660455486542443: the hardest results to copy."""
    if "/" not in expression:
        expression = lexicon.draw(lambda: f"{number(lexicon.rng)} / {number(lexicon.rng)}")
    return evaluate(expression)


def tool_answer(lexicon: Lexicon, expression: str) -> str:
    """Return a result: mostly random digits, so that the model must copy and cannot guess it."""
    rng = lexicon.rng
    if not lexicon.held_out and rng.random() < 0.25:
        value = _quotient(lexicon, expression)
        if not value.startswith("error"):
            return value
    kind = rng.random()
    if lexicon.held_out:
        kind = 0.1 + 0.9 * kind if kind > 0.4 else 0.0
    if kind < 0.25:
        value = evaluate(expression)
        if not value.startswith("error"):
            return value if len(value) < 9 or kind < 0.1 else str(round(float(value), 4))
    text = str(rng.randint(1, 9)) + "".join(
        rng.choices("0123456789", k=rng.choice((0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 7, 9)))
    )
    if kind > 0.80:
        text += "." + "".join(rng.choices("0123456789", k=rng.choice((1, 1, 2, 2, 3, 4, 6))))
    return ("-" if rng.random() < 0.15 else "") + text


def _parameters(rng: random.Random, name: str, note: str) -> Any:
    if rng.random() < 0.6:
        note_first = rng.random() < 0.3
        inner = (
            {"description": note, "type": "string"} if note_first else {"type": "string", "description": note}
        )
        return {"type": "object", "properties": {name: inner}, "required": [name]}
    return [{"name": name, "description": note, "type": rng.choice(["STRING", "string"])}]


def _tool(rng: random.Random, name: str, description: str, parameters: Any) -> dict[str, Any]:
    items = [("name", name), ("description", description), ("parameters", parameters)]
    if isinstance(parameters, list):
        items.append(("required", [parameters[0]["name"]]))
        if rng.random() < 0.3:
            items.append(("parameter_description", "Pass the parameters as JSON."))
    if rng.random() < 0.25:
        rng.shuffle(items)
    tool: dict[str, Any] = dict(items)
    return {"type": "function", "function": tool} if rng.random() < 0.15 else tool


def tool_list(lexicon: Lexicon) -> str:
    """Return the text of a plugin system prompt that offers the calculator."""
    rng = lexicon.rng
    description, note = rng.choice(DESCRIPTIONS), rng.choice(EXPRESSION_NOTES)
    if rng.random() < 0.3:
        description = " ".join(lexicon.word() for _ in range(rng.randint(2, 10)))
    if rng.random() < 0.1:
        words = rng.choice(["Tools:\n", "You can use these tools:\n", ""])
        return f"{words}calculator(expression): {description} expression: {note}"
    tools = [_tool(rng, "calculator", description, _parameters(rng, "expression", note))]
    if rng.random() < 0.25:
        for name in rng.sample(OTHER_TOOLS, rng.randint(1, 2)):
            other = _parameters(rng, rng.choice(["query", "text", "city", "path"]), lexicon.made_up_word())
            tools.append(_tool(rng, name, " ".join(lexicon.word() for _ in range(4)), other))
        rng.shuffle(tools)
    listed: Any = tools[0] if len(tools) == 1 and rng.random() < 0.15 else tools
    indent = rng.choice((None, None, None, 2, 4))
    separators = (",", ":") if indent is None and rng.random() < 0.2 else None
    text = json.dumps(listed, ensure_ascii=False, indent=indent, separators=separators)
    if rng.random() < 0.05:
        return (
            f"你可以使用如下工具：\n{text}\n如果你已经获得足够信息，请直接给出答案. 避免不必要的工具调用! "
            "同时注意你可以使用的工具，不要随意捏造！"
        )
    if rng.random() < 0.1:
        return rng.choice(["You can use the following tools:\n", "Tools:\n"]) + text
    return text
