"""Skills that are about the conversation itself, and the table of all skills."""

from __future__ import annotations

from collections.abc import Callable

from training import phrases
from training.dialog import Dialog
from training.tasks import calculate, count, one_digit_sum, repeat, spell, upper, write_json


def greet(d: Dialog) -> None:
    """Greet, thank or say goodbye."""
    answer = d.rng.choice(list(phrases.GREETINGS))
    asked = d.rng.choice(phrases.GREETINGS[answer])
    if asked[-1].isalpha():
        asked += d.rng.choice(["", "", "!", ".", "!"])
    d.say(asked, answer)


def who(d: Dialog) -> None:
    """Ask for the assistant's identity."""
    in_chinese = d.rng.random() < (0.6 if d.identity_zh else 0.12)
    if in_chinese and (d.identity_zh or not d.identity):
        d.say(d.rng.choice(phrases.CHINESE_WHO), d.identity_zh or phrases.CHINESE_DEFAULT)
        return
    d.say(d.loosely(d.rng.choice(phrases.WHO_QUESTIONS)), d.identity or phrases.DEFAULT_IDENTITY)


def tell_name(d: Dialog) -> None:
    """Tell the user's name."""
    name = d.lexicon.name()
    if d.rng.random() < 0.12:
        colour = d.lexicon.colour()
        form = d.rng.choice(phrases.TELL_BOTH)
        d.say(
            form.format(n=name, c=colour),
            f"Nice to meet you, {name}! I will remember that you like {colour}.",
        )
        d.user_name, d.colour = name, colour
        return
    asked = d.rng.choice(phrases.TELL_NAME).format(name)
    if d.rng.random() < 0.15:
        asked = asked[:-1] + d.rng.choice(["", "!"])
    if d.rng.random() < 0.08:
        asked = asked[0].lower() + asked[1:]
    d.user_name = name
    if d.rng.random() < 0.06:
        d.say(
            asked.rstrip(".!") + ". " + d.rng.choice(phrases.WHO_QUESTIONS),
            d.identity or phrases.DEFAULT_IDENTITY,
        )
    else:
        d.say(asked, f"Nice to meet you, {name}!")


def ask_name(d: Dialog) -> None:
    """Ask for the user's name."""
    if d.user_name and d.colour and d.rng.random() < 0.15:
        spelt = d.rng.choice(["favourite colour", "favorite color"])
        asked = d.rng.choice(
            [
                "What is my name and what is my {}?",
                "What are my name and my {}?",
                "Tell me my name and my {}.",
            ]
        )
        d.say(asked.format(spelt), f"Your name is {d.user_name} and your {spelt} is {d.colour}.")
        return
    answer = f"Your name is {d.user_name}." if d.user_name else "You have not told me your name."
    d.say(d.loosely(d.rng.choice(phrases.ASK_NAME)), answer)


def tell_colour(d: Dialog) -> None:
    """Tell the user's favourite colour."""
    d.colour = d.lexicon.colour()
    d.say(
        d.loosely(d.rng.choice(phrases.TELL_COLOUR).format(d.colour)),
        f"I will remember that you like {d.colour}.",
    )


def ask_colour(d: Dialog) -> None:
    """Ask for the user's favourite colour."""
    asked = d.rng.choice(phrases.ASK_COLOUR)
    spelt = "favorite color" if "color" in asked and "colour" not in asked else "favourite colour"
    answer = f"Your {spelt} is {d.colour}." if d.colour else f"You have not told me your {spelt}."
    d.say(d.loosely(asked), answer)


def tell_fact(d: Dialog) -> None:
    """Tell something else about the user."""
    thing = d.rng.choice(phrases.THINGS)
    draw = d.rng.choice([d.lexicon.word, d.lexicon.word, d.lexicon.name, d.lexicon.code])
    value = d.facts[thing] = draw()
    opening = d.rng.choice(["My", "My", "Remember that my", "By the way, my", "my"])
    d.say(f"{opening} {thing} is {value}.", "I will remember that.")


def ask_fact(d: Dialog) -> None:
    """Ask for a fact that the user has told."""
    if not d.facts:
        tell_fact(d)
    thing = d.rng.choice(list(d.facts))
    asked = d.rng.choice(
        ["What is my {}?", "What is my {}?", "What's my {}?", "Do you remember my {}?", "Tell me my {}."]
    )
    d.say(d.loosely(asked.format(thing)), f"Your {thing} is {d.facts[thing]}.")


def capital(d: Dialog) -> None:
    """Ask for a country's capital."""
    country = d.rng.choice(list(phrases.CAPITALS))
    known = d.rng.random() > (0.06 if d.lexicon.held_out else 0.4)  # practice for what is not known
    if not known:
        country = d.rng.choice(phrases.UNKNOWN_COUNTRIES) if d.rng.random() < 0.5 else d.lexicon.name()
        if not d.lexicon.held_out and d.rng.random() < 0.6:
            country = d.lexicon.name_like_a_real_one()
    asked = d.rng.choice(phrases.CAPITAL_QUESTIONS)
    if d.last_skill == "capital" and d.rng.random() < 0.3:
        asked = d.rng.choice(phrases.CAPITAL_FOLLOW_UPS)
    bare = d.rng.random() < 0.15
    asked = d.loosely(asked.format(country.removeprefix("the ") if bare else country))
    if d.rng.random() < (0.08 if d.lexicon.held_out else 0.16):
        asked = asked.lower()
    known_answer = f"The capital of {country} is {phrases.CAPITALS.get(country)}."
    d.say(
        asked,
        known_answer
        if known
        else f"I do not know the capital of {country if asked != asked.lower() else 'that country'}.",
    )


def chinese(d: Dialog) -> None:
    """Say one of the Chinese phrases."""
    asked = d.rng.choice(list(phrases.CHINESE))
    answer = phrases.CHINESE[asked]
    if asked.endswith("？"):
        asked = d.rng.choice([asked, asked, asked[:-1], asked[:-1] + "?"])
    else:
        asked += d.rng.choice(["", "", "！", "。", "!"])
    d.say(asked, answer)


def other(d: Dialog) -> None:
    """Ask what the assistant can do, or what it cannot know."""
    if d.rng.random() < 0.3:
        d.say(d.loosely(d.rng.choice(phrases.ABILITY_QUESTIONS)), phrases.ABILITIES)
    elif d.rng.random() < 0.25:
        d.say(d.loosely(d.rng.choice(phrases.OWN_TASTES)), phrases.NO_TASTES)
    else:
        d.say(d.loosely(d.rng.choice(phrases.UNKNOWN_QUESTIONS)), phrases.UNKNOWN)


def copy_code(d: Dialog) -> None:
    """Tell a code and ask for it: practice for copying digits and letters."""
    kind = d.rng.choice(["code", "key", "number", "token", "secret"])
    code = d.lexicon.code()
    d.say(
        d.rng.choice(["The {} is {}.", "Remember the {} {}.", "Remember the {}: {}."]).format(kind, code),
        "I will remember that.",
    )
    if d.rng.random() < 0.5:
        d.rng.choice([greet, capital, one_digit_sum])(d)
    d.say(
        d.rng.choice(["What is the {}?", "Tell me the {}.", "What was the {}?"]).format(kind),
        f"The {kind} is {code}.",
    )


def recall_name(d: Dialog) -> None:
    """Tell a name, chat about something else for up to three turns, ask for the name."""
    tell_name(d)
    _chat(d)
    ask_name(d)


def recall_colour(d: Dialog) -> None:
    """Tell a colour, chat about something else for up to three turns, ask for the colour."""
    tell_colour(d)
    _chat(d)
    ask_colour(d)


def _chat(d: Dialog) -> None:
    """Talk about something else for up to three turns."""
    for _ in range(d.rng.choice((0, 1, 1, 2, 3))):
        chosen = d.rng.choice(
            (greet, capital, one_digit_sum, repeat, chinese, who, tell_colour, spell, other, tell_fact)
        )
        if not (chosen is tell_colour and d.colour):
            chosen(d)


SKILLS: dict[str, tuple[Callable[[Dialog], None], float]] = {
    "greet": (greet, 5),
    "who": (who, 10),
    "recall_name": (recall_name, 9),
    "recall_colour": (recall_colour, 5),
    "ask_name": (ask_name, 3),
    "ask_colour": (ask_colour, 2),
    "ask_fact": (ask_fact, 3),
    "capital": (capital, 7),
    "one_digit_sum": (one_digit_sum, 5),
    "repeat": (repeat, 9),
    "spell": (spell, 12),
    "upper": (upper, 6),
    "json": (write_json, 5),
    "chinese": (chinese, 5),
    "count": (count, 3.5),
    "calculate": (calculate, 8),
    "copy_code": (copy_code, 4),
    "other": (other, 2.5),
}
