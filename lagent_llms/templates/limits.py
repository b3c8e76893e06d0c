"""Limits of a Jinja template, which may come from anyone, and the budget of one rendering. Pure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from itertools import chain, islice
from typing import Any

from ..errors import TemplateError, nearest

__all__ = ["SMALL", "Budget", "LimitExceeded", "TemplateLimits", "Uncounted"]

#: Strings of fewer characters are not counted as memory: only containers keep many, and those are counted.
SMALL = 1024
#: Steps (a node of the template, executed once, is about one) between two looks at the clock.
_STEPS = 20_000
#: Memory of an entry of a container, in bytes, and of a piece of the output, in entries.
_ENTRY, _PIECE = 8, 4


@dataclass(frozen=True)
class TemplateLimits:
    """What a template may use. The defaults are far above the needs of any model's own template.

    Attributes:
        source: Length of a template's source, in characters.
        output: Length of a prompt, and of each value that the template makes, in characters.
        memory: What the template makes while it renders once, in bytes, including what is freed again.
        seconds: Time to render once, in seconds that the thread computes.
        depth: Calls of macros and blocks in each other, and nesting of brackets and values.
    """

    source: int = 200_000
    output: int = 16_000_000
    memory: int = 256_000_000
    seconds: float = 5.0
    depth: int = 128

    @classmethod
    def of(cls, given: object) -> TemplateLimits:
        """The limits of a dict (names and values that replace the defaults), or `given` itself.

        Raises:
            TemplateError: A name or value is not allowed.
        """
        if isinstance(given, TemplateLimits):
            return given
        names = [item.name for item in fields(cls)]
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise TemplateError(f"limits={given!r}: allowed is a dict with any of {', '.join(names)}")
        for name, value in given.items():
            if name not in names:
                raise TemplateError(
                    f"limits: unknown limit {name!r}{nearest(str(name), names)} (allowed: {', '.join(names)})"
                )
            allowed = (int, float) if name == "seconds" else int
            if isinstance(value, bool) or not isinstance(value, allowed) or not value > 0:
                raise TemplateError(f"limits: {name}={value!r}; allowed is a number above 0")
        return cls(**given)


class LimitExceeded(Exception):
    """The template uses more than a limit allows."""

    def __init__(self, name: str, used: str) -> None:
        super().__init__(name, used)
        self.name, self.used = name, used

    def explained(self, limits: TemplateLimits) -> str:
        """What was exceeded, and how to raise the limit."""
        limit = getattr(limits, self.name)
        return (
            f"the template {self.used}: the limit {self.name}={limit} is exceeded; if the template is to be "
            f"trusted, meta_template={{'path': …, 'limits': {{{self.name!r}: …}}}} raises it"
        )


class Budget(threading.local):
    """What is left to the rendering that runs in this thread.

    Attributes:
        limits: The limits.
    """

    limits = TemplateLimits()
    _memory = _steps = _depth = 0
    _until = 0.0

    def start(self, limits: TemplateLimits) -> None:
        """Begin a rendering."""
        self.limits = limits
        self._memory, self._steps, self._depth = limits.memory, _STEPS, 0
        self._until = time.thread_time() + limits.seconds

    def work(self, steps: int) -> None:
        """Count steps.

        Raises:
            LimitExceeded: The time is over.
        """
        self._steps -= steps
        if self._steps < 0:
            self._steps = _STEPS
            if time.thread_time() > self._until:
                raise LimitExceeded("seconds", f"takes more than {self.limits.seconds:g} s")

    def text(self, length: int) -> None:
        """Count a string of `length` characters, before or after it is made.

        Raises:
            LimitExceeded: It is too long, or all of them are.
        """
        if length > self.limits.output:
            raise LimitExceeded("output", f"makes a text of more than {self.limits.output} characters")
        if length >= SMALL:
            self.memory(length)

    def memory(self, size: int) -> None:
        """Count `size` bytes.

        Raises:
            LimitExceeded: The rendering has made too much, or the time is over.
        """
        self._memory -= size
        if self._memory < 0:
            raise LimitExceeded("memory", f"makes more than {self.limits.memory} bytes of values")
        self.work(size >> 6)

    def entries(self, count: int) -> None:
        """Count a container of `count` entries."""
        self.memory(_ENTRY * count)

    def enter(self) -> None:
        """Begin a call of a macro or a block; `leave` ends it.

        Raises:
            LimitExceeded: Too many are open.
        """
        self._depth += 1
        if self._depth > self.limits.depth:
            raise LimitExceeded("depth", f"calls itself more than {self.limits.depth} levels deep")

    def leave(self) -> None:
        """End a call."""
        self._depth -= 1

    def weigh(self, value: Any) -> int:
        """The length of `value` as text, roughly: a container counts as often as it occurs in others.

        Raises:
            LimitExceeded: That is more than the output may have, or nested too deeply.
        """
        weight, most = 0, self.limits.output
        level, depth = [value], 0
        while level:
            depth += 1
            if depth > self.limits.depth:
                raise LimitExceeded("depth", f"nests values more than {self.limits.depth} levels deep")
            inner: list[Any] = []
            for item in level:
                if isinstance(item, (str, bytes)):
                    weight += len(item)
                elif isinstance(item, Uncounted):
                    weight += _ENTRY
                    inner.append(type(item).counted(item))
                elif isinstance(item, (Mapping, Sequence, Set)) and not isinstance(item, range):
                    count = len(item)
                    weight += _ENTRY * count
                    self.work(count)
                    inner.extend(item)
                    if isinstance(item, Mapping):
                        inner.extend(item.values())
                else:
                    weight += _ENTRY
                if weight > most:
                    raise LimitExceeded("output", f"makes a value of more than {most} characters")
            level = inner
        return weight

    def steps(self, values: Iterable[Any], cost: int = 1) -> Iterator[Any]:
        """Iterate over `values`, and count `cost` steps for each."""
        for value in values:
            self.work(cost)
            yield value

    def listed(self, values: Iterable[Any]) -> list[Any]:
        """`values` as a list, counted while it grows."""
        found = []
        for value in values:
            self.memory(_ENTRY + (len(value) if isinstance(value, str) else _ENTRY))
            found.append(value)
        return found

    def joined(self, pieces: Iterable[str]) -> str:
        """Join the pieces that a template writes."""
        source, parts, length = iter(pieces), [], 0
        while batch := list(islice(source, 256)):
            parts += batch
            length += sum(map(len, batch))
            self.entries(_PIECE * len(batch))
            if length > self.limits.output:
                raise LimitExceeded("output", f"writes more than {self.limits.output} characters")
        return "".join(parts)

    def repeated(self, values: Any, cost: int, pieces: int) -> Any:
        """The values of a loop, counted.

        Args:
            values: What the loop iterates over.
            cost: Steps of its body.
            pieces: Pieces that the body adds to a buffer.
        """
        if type(values) is not list and not isinstance(values, (Sequence, Mapping, Set)):
            return self.steps(values, cost + pieces) if isinstance(values, Iterator) else values
        count = len(values)
        self.entries(_PIECE * pieces * count)
        if cost * count < _STEPS:
            self.work(cost * count)
            return values
        return _Chunks(values, max(1, _STEPS // cost), lambda length: self.work(cost * length))


class Uncounted:
    """A value that `Budget.weigh` asks for what it contains."""

    def counted(self) -> Any:
        """What it contains."""


class _Chunks:
    """`values` as they are; `before` is called with the length of each chunk before it is iterated over."""

    def __init__(self, values: Any, size: int, before: Callable[[int], None]) -> None:
        self._values, self._size, self._before = values, size, before

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._chunks())

    def _chunks(self) -> Iterator[list[Any]]:
        values = iter(self._values)
        while chunk := list(islice(values, self._size)):
            self._before(len(chunk))
            yield chunk
