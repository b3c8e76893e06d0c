"""What the calls of a backend have used: totals per model, and a record of each call for subscribers.

A call is counted at its end, by appending to a deque, for which threads and finalizers need no lock. The
totals are summed when they are read.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..locks import DeferredLock
from ..schema import Completion, Usage

if TYPE_CHECKING:
    from .request import Request

__all__ = ["CallRecord", "UsageCounter", "UsageTotals", "model_of"]

_log = logging.getLogger("lagent_llms.usage")

#: Ended calls that are kept before they are summed.
_MOST_PENDING = 1024
#: Most models with totals of their own; the calls of further models are counted under `_OTHERS`.
_MOST_MODELS, _OTHERS = 1000, "others"


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What a number of calls have used. Totals can be added.

    Attributes:
        calls: Calls that have ended: with an answer, with an error, or left by their caller. Those that were
            refused before anything was sent are not counted.
        errors: Calls that failed.
        retries: Attempts after the first ones.
        prompt_tokens: Tokens of the prompts, as the backend has reported them: not for answers that failed,
            were left, or were cut by a stop word on this side.
        completion_tokens: Tokens generated, those of such answers included as far as they came.
        cached_tokens: Those of the prompt tokens that came from a KV cache, where the backend says so.
        cached_answers: Answers from the backend's ``cache=``; their tokens are not counted.
    """

    calls: int = 0
    errors: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cached_answers: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: UsageTotals) -> UsageTotals:
        if not isinstance(other, UsageTotals):
            return NotImplemented
        return UsageTotals(*(getattr(self, name) + getattr(other, name) for name in _NAMES))


_NAMES = tuple(item.name for item in fields(UsageTotals))


class CallRecord(NamedTuple):
    """One call that has ended, for metrics.

    Attributes:
        operation: ``chat``, or ``text_completion`` for a bare prompt.
        provider: Name of the backend's class, without ``Async``.
        model: The model, '' if the server decides.
        seconds: Its duration, retries included.
        first_chunk: Seconds until the first piece of the answer, None if there was none.
        completion: The answer; None if the call failed or was left.
        error: What it failed with.
        retries: Attempts after the first one.
    """

    operation: Literal["chat", "text_completion"]
    provider: str
    model: str
    seconds: float
    first_chunk: float | None
    completion: Completion | None
    error: BaseException | None
    retries: int


def model_of(llm: Any, request: Request) -> str:
    """Name of the model or adapter that answers `request`, for metrics; '' if the server decides."""
    name: str | None = request.options.adapter_name or getattr(llm, "model_name", None)
    if name or not getattr(llm, "path", None):
        return name or ""
    path: str = os.fspath(llm.path)
    return os.path.basename(path) if os.path.isabs(path) else path


class _Total:
    """An attribute of `UsageTotals`, read from the totals of all models."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.__doc__ = f"See `UsageTotals.{name}`."

    def __get__(self, counter: UsageCounter | None, owner: type | None = None) -> Any:
        return self if counter is None else getattr(counter.totals(), self._name)


_counters: weakref.WeakSet[UsageCounter] = weakref.WeakSet()


class UsageCounter:
    """Counts what the calls of one backend use; safe to use from many threads and tasks.

    A forked child counts its own calls, from 0; so does a copy of the backend.

    Args:
        members: The counters of other backends, for a backend that has them answer its calls: their totals
            are part of its own.

    Attributes:
        members: These counters; () for a backend that answers itself.
        listeners: What gets a `CallRecord` of each call; see `subscribe`.
    """

    calls, errors, retries = _Total(), _Total(), _Total()
    prompt_tokens, completion_tokens, total_tokens = _Total(), _Total(), _Total()
    cached_tokens, cached_answers = _Total(), _Total()

    def __init__(self, members: Iterable[UsageCounter] = ()) -> None:
        self.members = tuple(members)
        self.listeners: tuple[Callable[[CallRecord], object], ...] = ()
        self._lock = DeferredLock()
        self._pending: deque[tuple[str, Usage | None, bool, bool, int]] = deque()
        self._sums: dict[str, list[int]] = {}
        _counters.add(self)

    def totals(self) -> UsageTotals:
        """The totals of all models, at one moment."""
        return sum(self.models().values(), UsageTotals())

    def models(self) -> dict[str, UsageTotals]:
        """The totals of each model by its name, in the order of their first calls; an adapter is a model.

        The name is '' where the server decides.
        """
        with self._lock:
            found = self._summed()
        for member in self.members:
            for model, totals in member.models().items():
                found[model] = found.get(model, UsageTotals()) + totals
        return found

    def reset(self) -> UsageTotals:
        """Count from 0 again, the members too.

        Returns:
            The totals until now. Every call is counted either in them or after them.
        """
        with self._lock:
            totals = self._summed()
            self._sums.clear()
        return sum((*totals.values(), *(member.reset() for member in self.members)), UsageTotals())

    def subscribe(self, listener: Callable[[CallRecord], object]) -> None:
        """Call `listener` with a `CallRecord` at the end of each call, in the thread of the call.

        What it raises is logged. The calls of members are reported too.
        """
        self.listeners = (*self.listeners, listener)
        for member in self.members:
            member.subscribe(listener)

    def add(self, model: str, usage: Usage | None, *, cached: bool, failed: bool, retries: int) -> None:
        """Count a call that has ended. Does not block.

        Args:
            model: The model that has answered.
            usage: Its tokens, None if it was not answered by a model.
            cached: Whether the answer is from the cache.
            failed: Whether it has failed.
            retries: Attempts after the first one.
        """
        self._pending.append((model, usage, cached, failed, retries))
        if len(self._pending) > _MOST_PENDING:
            self._lock.defer(self._sum)

    def report(self, record: CallRecord) -> None:
        """Give `record` to the listeners."""
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:  # noqa: BLE001  (metrics must not fail a call)
                _log.exception("a listener of llm.usage has failed")

    def _sum(self) -> None:
        """Add the pending calls to the sums. The lock is held."""
        pending, sums = self._pending, self._sums
        while pending:
            model, usage, cached, failed, retries = pending.popleft()
            if model not in sums and len(sums) >= _MOST_MODELS:
                model = _OTHERS
            row = sums.setdefault(model, [0] * len(_NAMES))
            counted = (1, failed, retries, 0, 0, 0, cached)
            if usage is not None:
                tokens = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens or 0
                counted = (1, failed, retries, *tokens, cached)
            row[:] = map(int.__add__, row, map(int, counted))

    def _summed(self) -> dict[str, UsageTotals]:
        self._sum()
        return {model: UsageTotals(*row) for model, row in self._sums.items()}

    def __repr__(self) -> str:
        return repr(self.totals())

    def _forget(self) -> None:
        """Begin anew in a forked child."""
        self._pending, self._sums = deque(), {}


def _after_fork_in_child() -> None:
    for counter in list(_counters):
        counter._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
