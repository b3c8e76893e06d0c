"""Open sessions: servers are stateless, so the client keeps the history.

A `Turn` is one call inside a session. It reads the history as it was when the call began and changes it only
if the call succeeds; a failed or cancelled turn leaves the session unchanged.
"""

from __future__ import annotations

import logging
import os
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import SessionBusy, SessionClosed
from ..locks import DeferredLock
from ..templates.history import Held, History

if TYPE_CHECKING:
    from ..params import CallOptions
    from ..schema import Message

__all__ = ["Held", "History", "SessionStore", "Turn", "warn_of_session_id"]

_log = logging.getLogger("lagent_llms.sessions")


_NOTHING = History()


class _Session:
    """One session: its history, and whether a turn is running."""

    __slots__ = ("busy", "history")

    def __init__(self, history: History | None = None) -> None:
        self.history = history  # None until the first turn has succeeded
        self.busy = False


_stores: weakref.WeakSet[SessionStore] = weakref.WeakSet()


class SessionStore:
    """The open sessions of one backend, safe to use from many threads and tasks.

    A forked child has the histories of its parent; turns that run in the parent during the fork do not end in
    the child, so there they have not begun.
    """

    def __init__(self) -> None:
        self._lock = DeferredLock()
        self._sessions: dict[int, _Session] = {}
        _stores.add(self)

    def open(self, session_id: int, opening: tuple[Message, ...]) -> None:
        """Open a session without a turn; its first turn continues it.

        Args:
            session_id: The session; one of this id is replaced.
            opening: Messages that come before those of the first turn, as `check_messages` returns them.
        """
        with self._lock:
            self._sessions[session_id] = _Session(History(opening=opening))

    def begin(self, session_id: int, *, start: bool, end: bool) -> Turn:
        """Start a turn.

        Args:
            session_id: The session.
            start: Open it (or open it anew); False continues it.
            end: Close it once the turn has succeeded. With `start` too the turn belongs to no session.

        Raises:
            SessionClosed: Continuing a session that is not open.
            SessionBusy: Another turn of this session is still running.
        """
        if start and end:
            return Turn(None, session_id, None, _NOTHING, end=True)
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                if not start:
                    raise SessionClosed(
                        f"session {session_id} is not open; open it with "
                        "sequence_start=True, sequence_end=False, or hold the dialog with llm.session()",
                        session_id=session_id,
                    )
                session = self._sessions[session_id] = _Session()
            if session.busy:
                raise SessionBusy(f"session {session_id} has a call running", session_id=session_id)
            session.busy = True
            history = _NOTHING if start else session.history or _NOTHING
            return Turn(self, session_id, session, history, end=end)

    def close(self, session_id: int) -> None:
        """Forget a session; one that is not open is no error. Does not block, so finalizers can call it."""
        self._lock.defer(lambda: self._sessions.pop(session_id, None))

    def history(self, session_id: int) -> History:
        """The history of an open session, without a turn that is running.

        Raises:
            SessionClosed: It is not open.
        """
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or session.history is None:
                raise SessionClosed(f"session {session_id} is not open", session_id=session_id)
            return session.history

    def __contains__(self, session_id: int) -> bool:
        with self._lock:
            session = self._sessions.get(session_id)
            return session is not None and session.history is not None

    def __len__(self) -> int:
        with self._lock:
            return sum(session.history is not None for session in self._sessions.values())

    def forget_turns(self) -> None:
        """Replace every session by one with the same history and no running turn; drop those without one.

        What the server stores of a session stays the parent's: the next turn sends all of the history.
        """
        self._sessions = {
            session_id: _Session(replace(session.history, held=None))
            for session_id, session in self._sessions.items()
            if session.history is not None
        }

    def _finish(self, session_id: int, session: _Session, history: History | None, *, end: bool) -> None:
        def finish() -> None:
            session.busy = False
            if history is not None:
                session.history = history
            closed = (history is not None and end) or session.history is None
            if closed and self._sessions.get(session_id) is session:
                del self._sessions[session_id]

        self._lock.defer(finish)


class Turn:
    """One call inside a session. Exactly one of `commit` and `rollback` takes effect.

    Attributes:
        session_id: The session's id.
        history: The history this turn builds on.
    """

    __slots__ = ("_end", "_session", "_store", "history", "session_id")

    def __init__(
        self,
        store: SessionStore | None,
        session_id: int,
        session: _Session | None,
        history: History,
        *,
        end: bool,
    ) -> None:
        self._store = store
        self._session = session
        self._end = end
        self.session_id = session_id
        self.history = history

    @property
    def stateless(self) -> bool:
        """Whether the turn belongs to no session."""
        return self._session is None

    def commit(self, history: History) -> None:
        """The call succeeded: `history` is the session's from now on."""
        self._finish(history)

    def rollback(self) -> None:
        """The call failed or was cancelled: the session stays as it was. Does nothing after a commit."""
        self._finish(None)

    def _finish(self, history: History | None) -> None:
        store, session = self._store, self._session
        self._store = None
        if store is not None and session is not None:
            store._finish(self.session_id, session, history, end=self._end)


def warn_of_session_id(llm: Any, options: CallOptions) -> None:
    """Log, once for each backend, that a call has a session id but is stateless, unless it asks for that.

    Args:
        llm: The backend, an `LLMCore`.
        options: Those of a stateless call that was given a ``session_id``.
    """
    if "sequence_end" not in options.given:
        llm.warned_of_session = True
        _log.warning(
            "%r: session_id=%d alone remembers nothing, each call is answered without the ones before; use "
            "session = llm.session() and session.chat(…), or sequence_start= and sequence_end= "
            "(sequence_end=True says that no memory is meant)",
            llm,
            options.session_id,
        )


def _after_fork_in_child() -> None:
    for store in list(_stores):
        store.forget_turns()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
