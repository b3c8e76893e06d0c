"""A promise: a test, the sentence it proves, and the parameter it takes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest

from ...core.llm import LLMCore
from ...errors import UnsupportedParameter
from .backend import BackendUnderTest
from .calling import PATIENCE, Caller

__all__ = ["ConformanceTests", "Make", "requirement", "wait_until"]

_Test = TypeVar("_Test", bound=Callable[..., None])

#: A value of each parameter that asks for something, to see it refused.
ASKING: dict[str, Any] = {
    "adapter_name": "x",
    "ignore_eos": True,
    "logprobs": 1,
    "min_p": 0.5,
    "repetition_penalty": 1.5,
    "response_format": {"type": "json_object"},
    "seed": 1,
    "skip_special_tokens": True,
    "stream": False,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "x"}}],
    "top_k": 1,
    "top_p": 0.5,
}


class Make(Protocol):
    """Makes callers of the backend under test, which end with the test."""

    def __call__(self, **kwargs: Any) -> Caller:
        """A caller of a new object with these arguments, greedy unless they say otherwise."""


def requirement(sentence: str, *, needs: str | None = None) -> Callable[[_Test], _Test]:
    """Mark a test as the proof of a promise.

    Args:
        sentence: The promise, for reports.
        needs: The parameter it is about. A backend that declares it unsupported keeps the promise by
            refusing it before anything is sent.
    """

    def decorate(test: _Test) -> _Test:
        @functools.wraps(test)
        def proof(self: ConformanceTests, *args: Any, **kwargs: Any) -> None:
            if needs is None or self.honours(needs):
                try:
                    return test(self, *args, **kwargs)
                except UnsupportedParameter as refusal:  # the model or server behind it cannot
                    if refusal.parameter != needs:
                        raise
                    self.outcome = "refused"
                    return None
            with pytest.raises(UnsupportedParameter, match=needs):
                self.make().chat(self.subject.question, **{needs: ASKING[needs]})
            self.outcome = "refused"
            return None

        proof.__doc__ = proof.requirement = sentence  # type: ignore[attr-defined]
        return proof  # type: ignore[return-value]

    return decorate


class ConformanceTests:
    """What every group of promises stands on. The fixture `subject` is the user's."""

    subject: BackendUnderTest
    make: Make
    make_twin: Callable[[], Caller]
    outcome = "kept"

    @pytest.fixture(autouse=True, params=[False, True], ids=["sync", "async"])
    def _prepare(self, request: pytest.FixtureRequest, subject: BackendUnderTest) -> Iterator[None]:
        made: list[Caller] = []

        def make(asynchronous: bool = request.param, **kwargs: Any) -> Caller:
            patient = {"temperature": 0, "max_new_tokens": 64, "timeout": PATIENCE}
            arguments = {**patient, **subject.defaults, **kwargs}
            made.append(Caller(subject.make(asynchronous, **arguments)))
            return made[-1]

        self.subject, self.make = subject, make
        self.make_twin = functools.partial(make, not request.param)
        yield
        for caller in made:
            caller.close()
        if sentence := getattr(request.function, "requirement", None):
            told = {"promise": sentence, "subject": str(subject), "outcome": self.outcome}
            request.node.user_properties += told.items()

    def honours(self, parameter: str) -> bool:
        """Whether the backend does not declare `parameter` unsupported."""
        return parameter not in type(self.make().llm).unsupported_names()

    def make_for(self, parameter: str, **kwargs: Any) -> Caller:
        """A caller of an object made so that `parameter` is honoured."""
        return self.make(**{**self.subject.arguments_for.get(parameter, {}), **kwargs})

    def prompt(self, llm: LLMCore) -> str:
        """The subject's question as a prompt."""
        messages = self.subject.question
        return llm.template.render(messages) if llm.template is not None else str(messages[-1]["content"])

    def nothing_runs(self) -> bool:
        """Whether the engine or server has nothing to do any more, soon; not seen where nobody can tell."""
        if self.subject.running() is None:
            self.outcome = "not seen"
            return True
        return wait_until(lambda: not self.subject.running(), self.subject.patience)

    def something_runs(self) -> bool:
        """Whether it has something to do, or nobody can tell."""
        return self.subject.running() in (None, 1)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `condition` comes true in time."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true
