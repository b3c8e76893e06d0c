"""What a backend keeps of its calls: answers in a cache, calls in a journal, totals of what they use."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InvalidArgument, nearest
from .answer import Answer
from .usage import UsageCounter

if TYPE_CHECKING:
    from ..params import Timeout
    from ..store.cache import AnswerCache
    from ..store.journal import Journal
    from .recording import Recorder

__all__ = ["KeepsCalls"]


class KeepsCalls:
    """The cache, the journal and the totals of one backend.

    Attributes:
        cache: Answers of deterministic calls, None without a cache.
        journal: Every call, None without a journal.
        recorder: Puts calls into both, None without either.
        answer_type: The class of answers.
        usage: What the calls so far have used: tokens, errors, retries.
    """

    #: Constructor arguments that change no answer. All others are part of what a cached answer is known by.
    neutral_arguments: ClassVar[frozenset[str]] = frozenset({"cache", "journal", "max_concurrency"})

    cache: AnswerCache | None = None
    journal: Journal | None = None
    recorder: Recorder | None = None
    answer_type: type[Answer] = Answer
    usage: UsageCounter

    def served_model(self, timeout: Timeout) -> str | Awaitable[str]:
        """Name of the model that answers, '' if the constructor's arguments identify it.

        An asynchronous backend that asks its server returns an awaitable.

        Raises:
            LLMError: The server cannot be asked.
        """
        return getattr(self, "model_name", None) or ""

    def secrets(self) -> tuple[str, ...]:
        """What must not be written into a journal: keys, passwords; longest first."""
        return ()

    def _keep(self, cache: Any, journal: Any) -> None:
        """Open the cache and the journal; see `LLMCore`."""
        self.usage = UsageCounter()
        if cache is None and journal is None:
            return
        from ..store.cache import AnswerCache
        from ..store.journal import Journal
        from .recording import Recorder
        from .replay import RecordedAnswer

        self.cache = None if cache is None else _made(AnswerCache, "cache", cache)
        self.journal = None if journal is None else _made(Journal, "journal", journal)
        self.recorder = Recorder(self.cache, self.journal)
        self.answer_type = RecordedAnswer

    def close_stores(self) -> None:
        """Wait until everything is written, and close the files; a later call opens them again."""
        for store in (self.cache, self.journal):
            if store is not None:
                store.close()


def _made(cls: Any, argument: str, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    if not isinstance(value, Mapping):
        return cls(value)
    known = list(inspect.signature(cls.__init__).parameters)[1:]
    if (stray := next((key for key in value if key not in known), None)) is not None or "path" not in value:
        wrong = "'path' is missing" if stray is None else f"unknown key {stray!r}{nearest(str(stray), known)}"
        raise InvalidArgument(f"{argument}: {wrong}; allowed are {', '.join(known)}", argument=argument)
    try:
        return cls(**value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{argument}: {error}", argument=argument) from error
