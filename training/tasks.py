"""Skills that work on a text or on numbers: sums, the calculator, repeating, spelling, JSON, counting."""

from __future__ import annotations

import json

from training import arithmetic, phrases
from training.dialog import Dialog, Message
from training.words import ENGLISH

COMMON_ENDS = (3, 5, 8, 10, 10, 10, 12, 15, 20, 25, 30, 40, 50, 60, 100)


def one_digit_sum(d: Dialog) -> None:
    """Ask for a sum that needs no tool, or for one that would."""
    if d.plugin:
        calculate(d)
        return
    a, b = d.rng.randint(0, 9), d.rng.randint(0, 9)
    asked = d.rng.choice(
        [f"{a} + {b}"] * 5 + [f"{a}+{b}"] * 2 + [f"{a} plus {b}"] * 2 + [f"the sum of {a} and {b}"]
    )
    question = d.rng.choice([q for q in arithmetic.QUESTIONS if "calculator" not in q])
    if d.rng.random() < 0.12:
        larger, expression = arithmetic.ask(d.lexicon)
        if sum(map(str.isdigit, expression)) > 2 or "+" not in expression:
            d.say(larger, "I need a calculator for that.")
            return
    d.say(d.loosely(question.format(asked)), f"{a} + {b} = {a + b}.")


def calculate(d: Dialog) -> None:
    """Ask for a calculation: the call, the tool's answer, the final answer."""
    if not d.plugin:
        one_digit_sum(d)
        return
    asked, expression = arithmetic.ask(d.lexicon)
    if d.rng.random() < 0.15:
        asked = d.loosely(asked) if asked[0].isalpha() else asked
    call = {"name": "calculator", "parameters": {"expression": expression}}
    d.say(asked, f"<|action_start|><|plugin|>\n{json.dumps(call)}<|action_end|>")
    if d.rng.random() < 0.02:
        note = d.rng.choice(
            ["error: division by zero", "error: invalid expression", "error", "Error: timeout"]
        )
        d.messages += [Message("environment", note, "<|plugin|>")]
        d.messages += [Message("assistant", "The calculator could not work that out.")]
        return
    result = arithmetic.tool_answer(d.lexicon, expression)
    form = d.rng.choice(arithmetic.ANSWER_FORMS).replace("EXPR", expression)
    source = "<|plugin|>" if d.rng.random() < 0.95 else None
    d.messages += [Message("environment", form.replace("RESULT", result), source)]
    d.messages += [Message("assistant", f"{expression} = {result}.")]


def repeat(d: Dialog) -> None:
    """Ask to repeat a text."""
    text = d.lexicon.phrase()
    asked = d.rng.choice(phrases.wordings("REPEAT"))
    d.say(asked.format(text), text)


def spell(d: Dialog) -> None:
    """Ask to spell a word."""
    kind = d.rng.random()
    if kind < 0.35 and not d.lexicon.held_out:
        word = d.rng.choice(ENGLISH)  # many are single tokens, whose letters must be memorized
    elif kind < 0.5:
        word = d.lexicon.name().split()[0].split("-")[0]
    else:
        word = d.lexicon.made_up_word(1, 3) if kind < 0.85 else d.lexicon.letters(2, 7)
    asked = d.rng.choice(phrases.wordings("SPELL"))
    d.say(asked.format(word), "-".join(word))


def upper(d: Dialog) -> None:
    """Ask to write a text in capitals."""
    text = d.lexicon.draw(lambda: " ".join(d.lexicon.word() for _ in range(d.rng.randint(1, 3))))
    if d.rng.random() < 0.3:
        said = [m.content for m in d.messages if m.role == "assistant" and "<|" not in m.content]
        text = d.rng.choice(said) if said else text
    asked = d.rng.choice(
        ["Write {} in capitals.", "Write in capitals: {}", 'Write "{}" in capital letters.', "Shout: {}"]
    )
    d.say(asked.format(text), text.upper())


def write_json(d: Dialog) -> None:
    """Ask to write a person's data as JSON."""
    name, age = d.lexicon.name(), d.rng.randint(1, 99)
    asked = d.rng.choice(phrases.wordings("JSON_REQUESTS")).format(n=name, a=age)
    record: dict[str, str | int] = {"name": name, "age": age}
    if d.rng.random() < 0.2:
        city = d.rng.choice(list(phrases.CAPITALS.values())) if d.rng.random() < 0.5 else d.lexicon.name()
        record["city"] = city
        asked = asked.rstrip(".") + d.rng.choice([", city {}.", ", from {}.", ", city {}"]).format(city)
    d.say(asked, json.dumps(record, ensure_ascii=False))


def count(d: Dialog) -> None:
    """Ask to count numbers."""

    def make() -> str:
        first = 1 if d.rng.random() < 0.5 else d.rng.randint(0, 120)
        length = d.rng.randint(2, 30) if d.rng.random() < 0.6 else d.rng.randint(20, 60)
        if not d.lexicon.held_out and d.rng.random() < 0.6:  # every end occurs, short ranges more often
            length = d.rng.randint(2, d.rng.choice((12, 50, 100)))
        if d.rng.random() < 0.04:
            length = d.rng.randint(60, 100)
        return f"{first} {first + length - 1}"

    written = d.rng.random() < 0.1 and not d.lexicon.held_out
    if written:
        first, last = d.rng.choice((0, 1, 1, 1)), d.rng.choice([n for n in phrases.NUMBER_WORDS if n > 1])
    elif d.rng.random() < 0.15 and not d.lexicon.held_out:
        first, last = 1, d.rng.choice(COMMON_ENDS)  # common requests; evaluation leaves them out
    else:
        first, last = map(int, d.lexicon.draw(make).split())
        if d.lexicon.held_out and first == 1 and last in COMMON_ENDS:
            last += 1
    asked = [
        "Count from {} to {}.",
        "Count from {} to {}.",
        "Count from {} to {}",
        "Please count from {} to {}.",
    ]
    asked += [
        "Count {} to {}.",
        "Can you count from {} to {}?",
        "count from {} to {}",
        "Write the numbers from {} to {}.",
    ]
    if first == 1:
        asked += ["Count to {1}.", "Count up to {1}.", "Count to {1}", "Please count to {1}."]
    asked += [
        "Count from {} up to {}.",
        "List the numbers from {} to {}.",
        "Now count from {} to {}.",
        "Count: {} to {}",
    ]
    numbers = [phrases.NUMBER_WORDS[n] if written else n for n in (first, last)]
    d.say(d.rng.choice(asked).format(*numbers), ", ".join(map(str, range(first, last + 1))) + ".")
