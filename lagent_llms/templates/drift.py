"""Template drift: compare a family with a model's own template on generated dialogs."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..errors import LLMError, TemplateError
from ..schema import Message
from .base import ChatTemplate
from .families import TemplateSpec, load_template

__all__ = ["Difference", "DriftReport", "check_template", "dialogs"]

#: Pieces of generated contents: whitespace, other scripts, special tokens of templates, JSON.
PIECES = (
    "", " ", "\n", "\n\n", "\t", "Hello", "What is 2 + 2?", "你好，世界", "🏯", "é", "\u3000", "\xa0", "\r\n",
    "<think>\n2 + 2\n</think>\n\n", "</think>", "<|im_end|>\n", "</s>", "<s>[INST]",
    "<tool_response>\nx\n</tool_response>", "{x}", "{{ y }}", "{% z %}", "it's \"q\" <b>&</b>", "\\n",
    '{"a": [1, "é"]}', "User: ", "### User:\n", "%s",
)  # fmt: skip
OTHER_ROLES = ("tool", "system", "user", "assistant", "environment", "ipython", "tool_response", "function")
CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Difference:
    """A dialog that two templates render differently.

    Attributes:
        dialog: The messages.
        add_generation_prompt: Value of the argument of `render`.
        family: Text rendered by the family, or its error.
        model: Text rendered by the model's own template, or its error.
    """

    dialog: tuple[Message, ...]
    add_generation_prompt: bool
    family: str | TemplateError
    model: str | TemplateError

    @property
    def position(self) -> int:
        """Index of the first different character; 0 if one of the two is an error."""
        if not isinstance(self.family, str) or not isinstance(self.model, str):
            return 0
        pairs = zip(self.family, self.model, strict=False)
        shorter = min(len(self.family), len(self.model))
        return next((index for index, (mine, other) in enumerate(pairs) if mine != other), shorter)

    def __str__(self) -> str:
        lines = [json.dumps(dict(message), ensure_ascii=False) for message in self.dialog]
        return "\n".join(
            [
                f"dialog (add_generation_prompt={self.add_generation_prompt}):",
                *(f"  {line}" for line in lines),
                f"first difference at character {self.position}:",
                f"  family: {self._excerpt(self.family)}",
                f"  model:  {self._excerpt(self.model)}",
            ]
        )

    def _excerpt(self, result: str | TemplateError) -> str:
        if not isinstance(result, str):
            return f"refuses: {result}"
        start, end = max(0, self.position - CONTEXT), self.position + CONTEXT
        before, after = result[start : self.position], result[self.position : end]
        dots = ("…" if start else "", "…" if end < len(result) else "")
        return f"{dots[0]}{before!r} | {after!r}{dots[1]}"


@dataclass(frozen=True, slots=True)
class DriftReport:
    """Result of `check_template`.

    Attributes:
        family: Name of the family.
        model: Name of the model's template.
        equal: Number of dialogs rendered to the same text.
        refused: Number of dialogs that both reject.
        different: Number of dialogs rendered differently, or rejected by one of the two.
        first: The shortest different dialog, None if there is none.
    """

    family: str
    model: str
    equal: int
    refused: int
    different: int
    first: Difference | None

    @property
    def ok(self) -> bool:
        """True if no dialog is rendered differently."""
        return self.different == 0

    def __str__(self) -> str:
        counts = f"{self.equal} equal, {self.refused} refused alike, {self.different} different"
        head = f"{self.family} against {self.model}: {counts}"
        return head if self.first is None else f"{head}\n{self.first}"


def check_template(model_dir: TemplateSpec, family: TemplateSpec, n: int = 200, seed: int = 0) -> DriftReport:
    """Compare a family with a model's own chat template on generated dialogs.

    Args:
        model_dir: Model directory, its tokenizer_config.json, or any other argument of `load_template`.
        family: Name of the family, or any other argument of `load_template`.
        n: Number of dialogs.
        seed: Seed of the generator; equal seeds give equal dialogs.

    Raises:
        TemplateError: One of the two templates cannot be loaded.
    """
    ours, theirs = load_template(family), load_template(model_dir)
    assert ours is not None
    assert theirs is not None
    equal = refused = 0
    found: list[Difference] = []
    for dialog, generation in dialogs(n, seed):
        mine, other = _render(ours, dialog, generation), _render(theirs, dialog, generation)
        if ours.bos_by == "server" and isinstance(other, str):  # the family leaves the BOS to the tokenizer
            other = other.removeprefix(ours.bos)
        if mine == other:
            equal += 1
        elif not isinstance(mine, str) and not isinstance(other, str):
            refused += 1
        else:
            found.append(Difference(tuple(dialog), generation, mine, other))
    first = min(found, key=lambda difference: len(str(difference.dialog)), default=None)
    return DriftReport(ours.name, theirs.name, equal, refused, len(found), first)


def _render(template: ChatTemplate, dialog: list[Message], generation: bool) -> str | TemplateError:
    try:
        return template.render(dialog, add_generation_prompt=generation, now=datetime(2025, 1, 15))
    except TemplateError as error:
        return error
    except LLMError as error:
        return TemplateError(str(error))


def dialogs(n: int, seed: int = 0) -> Iterator[tuple[list[Message], bool]]:
    """Generate `n` dialogs, with roles in and out of order, each with a value of add_generation_prompt."""
    source = random.Random(seed)
    for _ in range(n):
        roles = ["system"] * (source.random() < 0.5)
        roles += [("user", "assistant")[turn % 2] for turn in range(source.randint(1, 7))]
        if source.random() < 0.4:
            for _ in range(source.randint(1, 3)):
                roles.insert(source.randrange(len(roles) + 1), source.choice(OTHER_ROLES))
        dialog: list[Message] = [{"role": role, "content": _content(source)} for role in roles]
        yield dialog, source.random() < 0.5


def _content(source: random.Random) -> str:
    return "".join(source.choice(PIECES) for _ in range(source.randint(0, 4)))
