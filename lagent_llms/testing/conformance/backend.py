"""What the promises are tested on: how to make the backend under test, and what to ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.base import AsyncBaseLLM, BaseLLM
from ...schema import Message

__all__ = ["BackendUnderTest"]


def user(text: str) -> list[Message]:
    """A dialog of one message."""
    return [{"role": "user", "content": text}]


class BackendUnderTest(ABC):
    """A backend under test. Any model will do that gives the same answer to the same greedy request.

    Attributes:
        name: What the backend is called in reports; the class's name unless said.
        defaults: Arguments of every object that is made; what a test asks for comes before them.
        question: Messages with a short answer of at least three words.
        long_question: Messages with an answer of 30 tokens or more.
        multibyte_question: Messages with an answer outside ASCII.
        patience: Longest wait, in seconds, for a generation to be stopped at the engine or server.
        secrets: Arguments that hold a secret, of which nothing may be shown; the backend need not take them.
        arguments_for: Arguments that a parameter takes to be honoured, by the parameter's name: a backend
            may have another way for it (``{'logprobs': {'meta_template': None}}``).
    """

    name: str = ""
    patience: float = 10
    defaults: Mapping[str, Any] = {}
    question: ClassVar[list[Message]] = user("What is the capital of France?")
    long_question: ClassVar[list[Message]] = user("Count from 1 to 60.")
    multibyte_question: ClassVar[list[Message]] = user("你好")
    secrets: ClassVar[Mapping[str, Any]] = {"api_key": "sk-very-secret"}
    arguments_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def make(self, asynchronous: bool, **kwargs: Any) -> BaseLLM | AsyncBaseLLM:
        """A new object of the backend, or of its asynchronous twin, with these arguments."""

    def running(self) -> int | None:
        """How many generations are going on at the engine or server right now; None when nobody can tell."""
        return None

    def __str__(self) -> str:
        return self.name or type(self).__name__
