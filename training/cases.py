"""The cases a checkpoint is measured on: prompts and the expected answers."""

from __future__ import annotations

from dataclasses import dataclass

from training.dialog import Message, render


@dataclass(frozen=True)
class Case:
    """Prompts and the expected answers; a case is right if all answers are."""

    skill: str
    parts: tuple[tuple[str, str], ...]


def parts_of(messages: list[Message], first: int) -> tuple[tuple[str, str], ...]:
    """Return prompt and expected answer of every assistant message from ``first`` on."""
    parts = []
    for index in range(first, len(messages)):
        if messages[index].role == "assistant":
            prompt = render(messages[:index]) + "<|im_start|>assistant\n"
            parts.append((prompt, messages[index].content))
    return tuple(parts)
