"""Play the calls of a journal back: the recorded answers without a model, for tests."""

from __future__ import annotations

import difflib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from .. import errors
from ..content_parts import EVERY_PART, AcceptedParts
from ..core.base import AsyncBaseLLM, BaseLLM
from ..core.llm import LLMCore
from ..core.recording import messages_text
from ..core.replay import ReplayedAnswer
from ..core.request import Request
from ..errors import LLMError, ServerError, UnsupportedParameter
from ..params import PARAMETERS, GenerationParams
from ..redaction import redact
from ..retry import RetryPolicy
from ..store.journal import hash_of_input
from ..store.journal_reader import JournalReader, StoredCall

if TYPE_CHECKING:
    from ..templates import TemplateSpec

__all__ = ["AsyncReplayLLM", "NotRecorded", "ReplayLLM"]

#: Most calls, the newest ones, among which the nearest input is searched.
_MOST_COMPARED = 2000
#: Most characters of each that are compared.
_LONGEST_COMPARED = 5000


class NotRecorded(LLMError):
    """A call that the journal does not have; the message shows the difference to the nearest one."""


class _ReplayCore(LLMCore):
    """A model that answers as it did in the calls of a journal.

    A call is found by its messages, or its prompt if it has none. Of several calls with the same input, the
    one whose parameters differ least answers; of equal ones each in turn, in the order of the recording, the
    last one from then on. Recorded errors are raised.

    Args:
        journal: The file that ``journal=`` of another backend has written.
        meta_template: None matches messages as they were given; it is needed only to match bare prompts that
            continue a dialog.
        **kwargs: See `LLMCore`.

    Raises:
        ConfigError: There is no such journal, or it has no content.
    """

    takes_messages: ClassVar[bool] = True
    opt_in_parameters = frozenset(row.name for row in PARAMETERS.values() if row.opt_in)
    neutral_arguments = LLMCore.neutral_arguments - {"journal"}

    def __init__(
        self,
        journal: str | os.PathLike[str],
        *,
        meta_template: TemplateSpec | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retry", RetryPolicy(max_retries=0))  # recorded calls have been retried
        super().__init__(meta_template=meta_template, **kwargs)
        self.path = os.fspath(journal)
        self._reader = JournalReader(journal)
        self._played: dict[int, int] = {}  # how often a call has answered, by its id
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r})"

    @property
    def accepted_parts(self) -> AcceptedParts:
        """See `LLMCore.accepted_parts`."""
        return EVERY_PART

    def _answer(self, request: Request) -> ReplayedAnswer:
        """The recorded answer.

        Raises:
            NotRecorded: There is none.
        """
        messages = None if request.messages is None else redact(messages_text(request.messages))
        prompt = None if request.prompt is None else redact(request.prompt)
        calls = self._reader.with_input(hash_of_input(messages, prompt))
        if not calls:
            raise NotRecorded(self._difference(messages, prompt))
        distance = {call.id: _distance(request, call) for call in calls}
        nearest = [call for call in calls if distance[call.id] == min(distance.values())]
        with self._lock:
            call = min(nearest, key=lambda call: (self._played.get(call.id, 0) > 0, call.id))
            if call.id in self._played:  # each has answered: the last one repeats
                call = nearest[-1]
            self._played[call.id] = self._played.get(call.id, 0) + 1
        assert call.answer is not None
        return ReplayedAnswer(call.answer, error=None if call.error is None else _error(call.error))

    def _difference(self, messages: str | None, prompt: str | None) -> str:
        asked = _lines(None if messages is None else json.loads(messages), prompt)
        text = "\n".join(asked)[:_LONGEST_COMPARED]
        best, found = -1.0, None
        matcher = difflib.SequenceMatcher(b=text, autojunk=False)
        for call in self._reader.calls(newest=_MOST_COMPARED):
            if call.answer is None:
                continue
            recorded = _lines(call.messages, call.prompt)
            matcher.set_seq1("\n".join(recorded)[:_LONGEST_COMPARED])
            if matcher.quick_ratio() > best and (ratio := matcher.ratio()) > best:
                best, found = ratio, (call.id, recorded)
        if found is None:
            return f"the journal {self.path} has no call with content"
        number, recorded = found
        diff = difflib.unified_diff(recorded, asked, f"call {number}", "this call", lineterm="")
        return "\n".join([f"the journal {self.path} has no call with this input; the nearest one:", *diff])

    def _ids(self, text: str) -> list[int]:
        raise UnsupportedParameter(
            f"{self!r} has no tokenizer, which session_len and tokenize need",
            parameter="session_len",
            backend=type(self).__name__,
        )

    def _close(self) -> None:
        self._reader.close()


class ReplayLLM(_ReplayCore, BaseLLM):
    """A model that answers as recorded in a journal. The arguments: see its base class."""

    def _open(self, request: Request) -> ReplayedAnswer:
        return self._answer(request)

    def _tokenize(self, text: str) -> list[int]:
        return self._ids(text)

    def _free(self) -> None:
        self._close()


class AsyncReplayLLM(_ReplayCore, AsyncBaseLLM):
    """The asynchronous twin of `ReplayLLM`."""

    async def _open(self, request: Request) -> ReplayedAnswer:
        import asyncio  # here, so that the import stays light

        return await asyncio.to_thread(self._answer, request)

    async def _tokenize(self, text: str) -> list[int]:
        return self._ids(text)

    async def _free(self) -> None:
        self._close()


def _distance(request: Request, call: StoredCall) -> int:
    """In how many of the recorded parameters the request differs."""

    def value(name: str) -> Any:
        table = request.params if PARAMETERS[name].table is GenerationParams else request.options
        return json.loads(json.dumps(getattr(table, name), default=repr))

    return sum(value(name) != recorded for name, recorded in call.parameters.items() if name in PARAMETERS)


def _error(recorded: Mapping[str, Any]) -> LLMError:
    """The recorded error; one of another library becomes an `LLMError` that names its type."""
    cls = getattr(errors, recorded["type"], None)
    message = recorded["message"]
    if not (isinstance(cls, type) and issubclass(cls, LLMError)):
        return LLMError(f"{recorded['type']}: {message}")
    error = cls(message)
    if isinstance(error, ServerError):
        error.status_code, error.code = recorded["status"], recorded["code"]
        error.retry_after = recorded["retry_after"]
    return error


def _lines(messages: list[Any] | None, prompt: str | None) -> list[str]:
    """An input in lines, for a diff."""

    def of_messages() -> Iterator[str]:
        for message in messages or ():
            rest = {name: value for name, value in message.items() if name not in ("role", "content")}
            content = message.get("content")
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            yield from f"{message.get('role')}: {text}".splitlines()
            if rest:
                yield json.dumps(rest, ensure_ascii=False)

    return (prompt or "").splitlines() if messages is None else list(of_messages())
