"""`Run`: the bookkeeping of one call on its way, shared by synchronous and asynchronous streams.

A run opens its source at the first step, feeds an `Answer`, and ends exactly once: with the END chunk, with
an error, or closed. After a failure that may be temporary it waits and opens another source, as `Attempts`
decides. However it ends, the source is closed, which stops the generation, and the session turn is committed
or rolled back. In a forked child a stream of the parent fails; its source is left to the parent.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import forks
from ..errors import LLMError, StreamInterrupted
from ..retry import Attempts
from ..schema import Completion, StreamChunk, Usage
from . import telemetry
from .answer import Answer
from .llm import LLMCore, PreparedCall
from .replay import RecordedAnswer, SourceAnswer
from .request import Request
from .sources import Closable
from .usage import CallRecord, model_of

if TYPE_CHECKING:
    from ..templates.history import Held
    from .gates import AsyncPlace, Place
    from .recording import Recording

__all__ = ["Run", "as_failure"]

_log = logging.getLogger("lagent_llms.retry")
_limit_log = logging.getLogger("lagent_llms.limit")


def as_failure(error: BaseException) -> BaseException:
    """`error`, or the error for a source that has ended without a finish reason."""
    if isinstance(error, (StopIteration, StopAsyncIteration)):
        return StreamInterrupted("the stream ended without its final marker")
    return error


class Run:
    """One call on its way: its bookkeeping, shared by sync and async.

    Args:
        llm: The backend.
        call: The prepared call, or the error that refused it, which the first step reports.
        raises: Errors are raised even with ``on_error='status'``.
        place: The place of the prompt in its batch.
    """

    # Slots: with 1,000 streams at once, a dict for each costs more time than its use.
    __slots__ = (
        "__weakref__", "_answer", "_attempts", "_began", "_call", "_ended", "_first_at", "_generation",
        "_held", "_llm", "_place", "_recording", "_reports", "_source", "_span", "_wake", "completion",
    )  # fmt: skip

    _source: Closable | None
    _place: Place | AsyncPlace | None

    def __init__(
        self,
        llm: LLMCore,
        call: PreparedCall | LLMError,
        *,
        raises: bool = False,
        place: Place | AsyncPlace | None = None,
    ) -> None:
        self._ended = False
        self._source = None
        self._span: telemetry.CallSpan | None = None
        self._recording: Recording | None = None
        self._generation = 0  # of `forks`, when the source was opened
        self._attempts: Attempts | None = None  # once the first has failed
        self._wake: Callable[[], object] | None = None  # ends the wait for the next attempt
        self._held: Held | None = None  # what the server had of the session before the call
        self._began = 0.0
        self._first_at: float | None = None  # when the source gave its first piece
        self._llm, self._call, self._place = llm, call, place
        self.completion: Completion | None = None
        if isinstance(call, LLMError):
            self._reports, self._answer = True, Answer()
            return
        self._reports = not raises and call.request.options.on_error == "status"
        self._answer = llm.answer_type(call.request.stop_words, call.reader)

    @property
    def attempts(self) -> int:
        """Number of attempts so far, the running one included."""
        return 1 if self._attempts is None else self._attempts.count

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    def _whole(self) -> Completion:
        if self.completion is None:
            raise StreamInterrupted("the call was closed before its answer was complete", partial=self.text)
        return self.completion

    def close(self) -> None:
        """Stop the generation; the session stays as it was. Does nothing after the end."""
        if not self._ended:
            self._release()

    def _begin(self) -> Request:
        """The request to open.

        Raises:
            LLMError: The call was refused.
        """
        if isinstance(self._call, LLMError):
            raise self._call
        request = self._call.request
        request.server = None if self._place is None else self._place.server
        if self._attempts is not None:
            from .deadline import LaterAttempt  # here: rarely needed

            timeout = LaterAttempt.of(request.options.timeout, self._began)
            request.options = request.options.changed({"timeout": timeout})
            request.held = self._held  # the failed attempt may have replaced it
            return request
        self._began, self._held = time.monotonic(), request.held
        self._generation = forks.generation
        if telemetry.MODULE in sys.modules:
            self._span = telemetry.begin(self._llm, request)
        if self._llm.recorder is not None:
            self._recording = self._llm.recorder.begin(self._llm, request)
        return request

    def _replay(self, source: object) -> None:
        """Show the steps of `source` if it is an answer itself."""
        if isinstance(source, SourceAnswer):
            self._answer = source

    def _backoff(self, error: BaseException) -> float | None:
        """Seconds until the next attempt after `error`, the source closed; None if the call ends with it."""
        call, llm = self._call, self._llm
        if isinstance(call, LLMError) or self._generation != forks.generation or llm.closed:
            return None
        if not isinstance(error, LLMError) or llm.explain(error) is not error:
            return None
        options, place = call.request.options, self._place
        if place is None and llm.retries_in_members:
            return None
        if self._attempts is None:
            self._attempts = Attempts(
                options.retry,
                llm.retry_budget,
                in_batch=place is not None,
                total=options.timeout.total,
                began=self._began,
            )
        excused = place is not None and place.failed(error)
        # A server that holds the session may have added the turn to it.
        repeatable = self._held is None
        begun = self._first_at is not None
        seconds = self._attempts.backoff(error, begun=begun, repeatable=repeatable, excused=excused)
        if seconds is not None:
            _log.info("attempt %d in %.1f s: %s", self._attempts.count, seconds, error)
            source, self._source = self._source, None
            if source is not None:
                source.close()
            if begun:
                request, self._first_at = call.request, None
                self._answer = llm.answer_type(request.stop_words, llm.new_reader(request))
        return seconds

    def _release(self, error: BaseException | None = None) -> None:
        self._ended = True
        if (wake := self._wake) is not None:
            wake()
        ours = self._generation == forks.generation
        try:
            if self._source is not None and ours:
                self._source.close()
        finally:
            if isinstance(self._call, PreparedCall) and self._call.turn is not None:
                self._call.turn.rollback()
            if self._began and ours:
                self._count(error)
            if self._span is not None and ours:
                self._span.end(self.completion, error)
            if self._recording is not None and ours:
                assert isinstance(self._answer, RecordedAnswer)
                self._recording.end(self._answer, self.completion, error, self.attempts)

    def _count(self, error: BaseException | None) -> None:
        """Add this call to the totals of the backend, and report it where metrics of each call are wanted."""
        llm, completion, call = self._llm, self.completion, self._call
        assert isinstance(call, PreparedCall)
        usage, cached = llm.usage, completion is not None and completion.cached
        if usage.members and not cached:  # it is counted where it was answered
            return
        model = model_of(llm, call.request)
        used = None if completion is None or cached else completion.usage
        if used is None and not cached and (n_tokens := self._answer.n_tokens):  # cut by a stop word, or left
            used = Usage(0, n_tokens)
        retries = 0 if self._attempts is None else self._attempts.count - 1
        # A caller that cancels has no error.
        usage.add(model, used, cached=cached, failed=isinstance(error, Exception), retries=retries)
        if usage.listeners or telemetry.METRICS in sys.modules:
            first = None if self._first_at is None else self._first_at - self._began
            record = CallRecord(
                "text_completion" if call.request.messages is None else "chat",
                type(llm).__name__.removeprefix("Async"),
                model,
                time.monotonic() - self._began,
                first,
                completion,
                error,
                retries,
            )
            usage.report(record)
            telemetry.record(record)

    def _complete(self) -> StreamChunk:
        assert isinstance(self._call, PreparedCall)
        self.completion, chunk = self._answer.finish()
        request, history, turn, _ = self._call
        if turn is not None:
            message = self._llm.message_of(self.completion)
            turn.commit(history.answered(self.completion, message, request.held))
        if self.completion.finish_reason == "length":
            self._warn_of_limit(request)
        if not self.completion.cached:  # says nothing of the server
            if self._llm.retry_budget.spent:
                self._llm.retry_budget.answered()
            if self._place is not None:
                self._place.answered()
        self._release()
        return chunk

    def _warn_of_limit(self, request: Request) -> None:
        """Log, once for each backend, that a limit has cut the answer which the caller has not set."""
        if "max_new_tokens" in request.params.given or self._llm.warned_of_limit:
            return
        self._llm.warned_of_limit = True
        sent = request.sends("max_new_tokens")
        limit = (
            f"the default max_new_tokens={request.params.max_new_tokens}"
            if sent
            else "the server's default limit"
        )
        _limit_log.warning("%r: %s has cut an answer; max_new_tokens= sets another", self._llm, limit)

    def _check_process(self) -> None:
        forks.check(self._generation, "this stream was opened", "start a new one in this process")

    def _closed_meanwhile(self, error: BaseException) -> bool:
        """True if the error is a side effect of a concurrent `close()`."""
        return self._ended and isinstance(error, Exception)

    def _fail(self, error: BaseException) -> StreamChunk:
        """End the stream with `error`.

        Returns:
            The chunk that reports it, with ``on_error='status'``.

        Raises:
            BaseException: `error`, or the error that explains it.
        """
        self._release(error)
        if not isinstance(error, LLMError):
            raise error
        held = self._answer.release()
        error.partial = error.partial or self._answer.text
        error = self._llm.explain(error)
        if not self._reports:
            raise error
        return self._answer.fail(error, held)

    def __del__(self) -> None:
        if not self._ended:
            self._release()
