"""`BackendUnderTest`: how the conformance tests make a backend, and which questions they ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from ...core.base import AsyncBaseLLM, BaseLLM
from ...schema import Message

__all__ = ["BackendUnderTest"]


def user(text: str) -> list[Message]:
    """A list of one user message."""
    return [{"role": "user", "content": text}]


class BackendUnderTest(ABC):
    """Makes the backend under test, with any model that repeats its answer to a repeated greedy request.

    Attributes:
        name: The backend's name in reports; '' takes the name of the class.
        defaults: Arguments for every object; those of a test override them.
        question: Messages with a short answer of at least three words.
        long_question: Messages with an answer of 30 tokens or more.
        multibyte_question: Messages with an answer outside ASCII.
        patience: Longest wait for a generation to stop at the engine or server, in seconds.
        async_streams_fork: Whether the process may be forked while an asynchronous stream runs; False
            skips the test, where a library of the backend does not support it (grpc.aio).
        constrains: Whether the server behind the backend constrains answers; False does not look at them,
            where it takes `response_format` without effect.
        secrets: Constructor arguments that hold a secret, which no repr and no error may show; those that the
            backend does not take are skipped.
        arguments_for: Parameter name to the constructor arguments without which the backend does not support
            the parameter, such as ``{'logprobs': {'meta_template': None}}``.
    """

    name: str = ""
    patience: float = 10
    defaults: Mapping[str, Any] = {}
    async_streams_fork: ClassVar[bool] = True
    constrains: ClassVar[bool] = True
    question: ClassVar[list[Message]] = user("What is the capital of France?")
    long_question: ClassVar[list[Message]] = user("Count from 1 to 60.")
    multibyte_question: ClassVar[list[Message]] = user("你好")
    secrets: ClassVar[Mapping[str, Any]] = {"api_key": "sk-very-secret"}
    arguments_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def make(self, asynchronous: bool, **kwargs: Any) -> BaseLLM | AsyncBaseLLM:
        """Make an object of the backend, or of its asynchronous twin.

        Args:
            asynchronous: True makes the asynchronous twin.
            **kwargs: Constructor arguments.
        """

    def connect(self, asynchronous: bool, url: str, **kwargs: Any) -> BaseLLM | AsyncBaseLLM | None:
        """Make an object of the backend for another server, at `url`; None if it speaks no OpenAI route.

        Args:
            asynchronous: True makes the asynchronous twin.
            url: Base URL of a server whose /v1/chat/completions answers messages.
            **kwargs: Constructor arguments.
        """
        return None

    def running(self) -> int | None:
        """Number of generations running at the engine or server now; None if it cannot be measured."""
        return None

    def __str__(self) -> str:
        return self.name or type(self).__name__
