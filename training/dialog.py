"""A dialog under construction, its messages, and its InternLM2 text."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from training import phrases
from training.words import Lexicon


@dataclass(frozen=True)
class Message:
    """One message of a dialog; ``name`` is ``"<|plugin|>"`` for tool lists and tool answers."""

    role: str
    content: str
    name: str | None = None


@dataclass
class Dialog:
    """A dialog under construction and the facts mentioned so far."""

    lexicon: Lexicon
    messages: list[Message] = field(default_factory=list)
    identity: str | None = None
    identity_zh: str | None = None
    assistant_name: str | None = None
    plugin: bool = False
    user_name: str | None = None
    colour: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    last_skill: str = ""

    @property
    def rng(self) -> random.Random:
        """The random generator of this dialog."""
        return self.lexicon.rng

    def say(self, user: str, assistant: str) -> None:
        """Add one question and its answer."""
        self.messages += [Message("user", user), Message("assistant", assistant)]

    def loosely(self, text: str) -> str:
        """Return the request, sometimes with careless punctuation or an opening phrase."""
        rng = self.rng
        if rng.random() < 0.12:
            text = text.rstrip("?.!")
        if rng.random() < 0.05:
            text = text[0].lower() + text[1:]
        elif rng.random() < 0.05 and not text.startswith(("And ", "Now ", "So ", "Please ", "H")):
            text = rng.choice(phrases.OPENINGS) + text[0].lower() + text[1:]
        if rng.random() < 0.04:
            text = text.rstrip("?.!") + rng.choice([", please", " please", ", please?", ", please."])
        elif rng.random() < 0.05:
            text = (
                rng.choice(["Hello! ", "Hi! ", "Hi. ", "Thanks! ", "Thank you. ", "OK. ", "Great. "]) + text
            )
        return text


def render(messages: list[Message]) -> str:
    """Return the InternLM2 text of a dialog."""
    turns = (
        f"<|im_start|>{m.role}{f' name={m.name}' if m.name else ''}\n{m.content}<|im_end|>\n"
        for m in messages
    )
    return "<s>" + "".join(turns)
