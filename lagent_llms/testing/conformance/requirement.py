"""`requirement` and `ConformanceTests`: a test per requirement, its outcome, and the backend under test."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

import pytest

from ...core.llm import LLMCore
from ...errors import UnsupportedParameter
from .backend import BackendUnderTest
from .calling import CALL_TIMEOUT, Caller

__all__ = ["ConformanceTests", "Make", "requirement", "wait_until"]

_Test = TypeVar("_Test", bound=Callable[..., None])

#: A value that is not a no-op for each parameter that a backend may refuse, to test that it does.
EFFECTIVE_VALUES: dict[str, Any] = {
    "adapter_name": "x",
    "adapter_source": "hub",
    "chat_template_kwargs": {"enable_thinking": False},
    "continue_final_message": True,
    "extra_body": {"field": 1},
    "extra_inputs": {"input": 1},
    "frequency_penalty": 1.5,
    "ignore_eos": True,
    "logit_bias": {1: -100},
    "logprobs": 1,
    "merged_adapters": {"ids": ["x", "y"], "weights": [0.5, 0.5]},
    "min_new_tokens": 5,
    "min_p": 0.5,
    "n": 2,
    "parameters": {"parameter": 1},
    "presence_penalty": 1.5,
    "priority": 1,
    "reasoning_effort": "low",
    "repetition_penalty": 1.5,
    "response_format": {"type": "json_object"},
    "sampling": "server",
    "seed": 1,
    "skip_special_tokens": True,
    "stream": False,
    "tool_choice": "auto",
    "tools": [{"type": "function", "function": {"name": "x"}}],
    "top_k": 1,
    "top_p": 0.5,
}


class Make(Protocol):
    """Makes callers of the backend under test; they are closed after the test."""

    def __call__(self, **kwargs: Any) -> Caller:
        """Make a caller of a new object with these constructor arguments, greedy by default."""


def requirement(sentence: str, *, needs: str | None = None) -> Callable[[_Test], _Test]:
    """Mark a test as the test of a requirement.

    Args:
        sentence: The requirement, for reports.
        needs: The parameter that the requirement is about. A backend that declares it unsupported passes by
            raising `UnsupportedParameter` before it sends anything.
    """

    def decorate(test: _Test) -> _Test:
        @functools.wraps(test)
        def checked(self: ConformanceTests, *args: Any, **kwargs: Any) -> None:
            if needs is None or self.honours(needs):
                try:
                    return test(self, *args, **kwargs)
                except UnsupportedParameter as error:  # this model or server does not support it
                    if error.parameter != needs:
                        raise
                    self.outcome = "refused"
                    return None
            with pytest.raises(UnsupportedParameter, match=needs):
                self.make().chat(self.subject.question, **{needs: EFFECTIVE_VALUES[needs]})
            self.outcome = "refused"
            return None

        checked.__doc__ = checked.requirement = sentence  # type: ignore[attr-defined]
        return checked  # type: ignore[return-value]

    return decorate


class ConformanceTests:
    """Base class of the test groups; its fixtures use the fixture `subject`.

    Attributes:
        subject: The backend under test.
        make: Makes a caller of the backend, synchronous and asynchronous in turn.
        make_twin: Makes a caller of the other of the two classes.
        connect: Makes a caller of the server at a URL; None if the backend has no `BackendUnderTest.connect`.
        outcome: 'kept', 'refused', 'not seen' or 'n/a'; reported if the test passes.
    """

    subject: BackendUnderTest
    make: Make
    make_twin: Make
    connect: Callable[[str], Caller | None]
    outcome = "kept"

    @pytest.fixture(autouse=True, params=[False, True], ids=["sync", "async"])
    def _prepare(self, request: pytest.FixtureRequest, subject: BackendUnderTest) -> Iterator[None]:
        made: list[Caller] = []

        def make(asynchronous: bool = request.param, **kwargs: Any) -> Caller:
            base = {"temperature": 0, "max_new_tokens": 64, "timeout": CALL_TIMEOUT}
            arguments = {**base, **subject.defaults, **kwargs}
            made.append(Caller(subject.make(asynchronous, **arguments)))
            return made[-1]

        def connect(url: str) -> Caller | None:
            llm = subject.connect(request.param, url, max_retries=0, timeout=CALL_TIMEOUT)
            if llm is None:
                return None
            made.append(Caller(llm))
            return made[-1]

        self.subject, self.make, self.connect = subject, make, connect
        self.make_twin = functools.partial(make, not request.param)
        yield
        for caller in made:
            caller.close()
        if sentence := getattr(request.function, "requirement", None):
            properties = {"requirement": sentence, "subject": str(subject), "outcome": self.outcome}
            request.node.user_properties += properties.items()

    def honours(self, parameter: str) -> bool:
        """True unless the backend declares `parameter` unsupported."""
        return parameter not in self.make().llm.unsupported

    def make_for(self, parameter: str, **kwargs: Any) -> Caller:
        """Make a caller of an object that supports `parameter`; see `BackendUnderTest.arguments_for`."""
        return self.make(**{**self.subject.arguments_for.get(parameter, {}), **kwargs})

    def prompt(self, llm: LLMCore) -> str:
        """The subject's question as a prompt."""
        messages = self.subject.question
        return llm.template.render(messages) if llm.template is not None else str(messages[-1]["content"])

    def nothing_runs(self) -> bool:
        """True once the engine or server is idle, within `patience`; if unknown, True with 'not seen'."""
        if self.subject.running() is None:
            self.outcome = "not seen"
            return True
        return wait_until(lambda: not self.subject.running(), self.subject.patience)

    def something_runs(self) -> bool:
        """True if exactly one generation runs, or if unknown."""
        return self.subject.running() in (None, 1)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Poll `condition` until it is true or the time is over; return its last value."""
    end = time.monotonic() + seconds
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true
