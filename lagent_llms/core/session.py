"""A dialog as an object: `Session` and `AsyncSession`, what ``llm.session()`` returns.

Each turn is a call of the backend that continues a session of its `SessionStore`: what a failed, cancelled or
busy turn does is decided there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import validators
from ..errors import InvalidArgument, SessionError
from ..messages import check_messages
from ..schema import Completion, Message
from .batch import as_inputs
from .llm import LLMCore, as_dialog
from .session_file import read_messages, write_messages
from .streams import AsyncStream, AsyncTextStream, Stream, TextStream

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..params import CallKwargs

__all__ = ["AsyncHoldsSessions", "AsyncSession", "HoldsSessions", "Session"]

#: Parameters of calls that a session sets itself.
_OWN = ("session_id", "session_ids", "sequence_start", "sequence_end")


class _SessionCore:
    """What both classes share: the turns and messages of one session.

    Args:
        llm: The backend.
        system: The system prompt; None for none.
        messages: Messages that the dialog begins with, after `system`.
        **defaults: Parameters of every turn.

    Attributes:
        id: The session's id in ``llm.sessions``, and in spans as ``gen_ai.conversation.id``.
        llm: The backend.

    Raises:
        LLMError: The backend is closed.
        InvalidArgument: `system` is no text, a message is none, or a parameter has a wrong value.
        UnknownParameter: A parameter that no backend knows.
        UnsupportedParameter: A parameter that this backend does not support.
    """

    def __init__(
        self,
        llm: Any,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        **defaults: Any,
    ) -> None:
        core: LLMCore = llm
        core.check_open()
        core.check_batch([("", _allowed(defaults))])
        self.llm = llm
        self._defaults = defaults
        self.id = int.from_bytes(os.urandom(7), "big") >> 3  # 53 bits: exact as a number of JSON, too
        self._ended_with: list[Message] | None = None
        self._store = core.sessions
        self._store.open(self.id, _opening(system, messages, core))
        # A dropped session frees its history, as a stream that is dropped stops.
        self._close = weakref.finalize(self, self._store.close, self.id)
        self._close.atexit = False

    @property
    def messages(self) -> list[Message]:
        """A copy of the dialog so far, in OpenAI's form; a turn that is running is not part of it.

        Raises:
            SessionError: The session was closed by its id, or continued with a bare prompt.
        """
        if self._ended_with is not None:
            return deepcopy(self._ended_with)
        history = self._store.history(self.id)
        if history.messages is None:
            raise SessionError(
                "a turn of this session was a bare prompt, so that it has no messages", session_id=self.id
            )
        return deepcopy([*(history.opening or ()), *history.messages])

    @property
    def ended(self) -> bool:
        """Whether the session has ended: a further turn is `SessionClosed`."""
        return self._ended_with is not None

    def end(self) -> None:
        """End the session and free its history; `messages` stay readable. Ending it twice is no error."""
        if self._ended_with is None:
            try:
                self._ended_with = self.messages
            except SessionError:
                self._ended_with = []
            self._close()

    def _turn(self, inputs: Any, given: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The messages and the keywords of the next turn."""
        own = {"session_id": self.id, "sequence_start": False, "sequence_end": False}
        found, several = as_inputs(inputs)
        if several and found:
            raise InvalidArgument(
                f"inputs: a turn of a session is a string or a list of messages, got a list of {len(found)} "
                f"inputs ({validators.shown(found[0])} …); a session answers one turn after the other",
                argument="inputs",
            )
        return as_dialog(found), {**self._defaults, **_allowed(given), **own}

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy begins with the messages of this one, and goes on by itself."""
        return _copy_of, (type(self), self.llm, self.messages, self._defaults)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.llm!r}{', ended' if self.ended else ''}>"


class Session(_SessionCore):
    """A dialog with a synchronous backend, which remembers its turns; see `BaseLLM.session`."""

    def chat(self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]) -> str:
        """Answer the next turn.

        Args:
            inputs: What is new: a string (a user message), a message, or several messages.
            **kwargs: Parameters of this turn only.

        Raises:
            SessionBusy: Another turn of this session is running.
            SessionClosed: The session has ended.
            LLMError: The call failed; the session is as it was before.
        """
        return self.complete(inputs, **kwargs).text

    def complete(self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]) -> Completion:
        """`chat`, returning the answer with its details."""
        stream: Stream = self.llm.raising_stream(*self._turn(inputs, kwargs))
        return stream.drain()

    def stream_chat(self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]) -> Stream:
        """`chat`, chunk by chunk; a stream that is left early is no turn."""
        dialog, given = self._turn(inputs, kwargs)
        return self.llm.stream_chat(dialog, **given)  # type: ignore[no-any-return]

    def stream_text(
        self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]
    ) -> TextStream:
        """`stream_chat`, only the new text of each step."""
        dialog, given = self._turn(inputs, kwargs)
        return self.llm.stream_text(dialog, **given)  # type: ignore[no-any-return]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the messages to a file, for `BaseLLM.load_session`.

        The file is JSON and readable by its owner only; it is replaced once all is written. It has no
        parameters, keys or addresses.

        Args:
            path: The file; its folder must exist.

        Raises:
            ConfigError: It cannot be written; a former file is unchanged.
        """
        write_messages(path, self.messages)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class AsyncSession(_SessionCore):
    """A dialog with an asynchronous backend. Its methods are those of `Session`."""

    async def chat(self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]) -> str:
        """See `Session.chat`."""
        return (await self.complete(inputs, **kwargs)).text

    async def complete(
        self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]
    ) -> Completion:
        """See `Session.complete`."""
        stream: AsyncStream = self.llm.raising_stream(*self._turn(inputs, kwargs))
        return await stream.drain()

    def stream_chat(
        self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]
    ) -> AsyncStream:
        """See `Session.stream_chat`; iterate with ``async for``."""
        dialog, given = self._turn(inputs, kwargs)
        return self.llm.stream_chat(dialog, **given)  # type: ignore[no-any-return]

    def stream_text(
        self, inputs: str | Message | Sequence[Message], **kwargs: Unpack[CallKwargs]
    ) -> AsyncTextStream:
        """See `Session.stream_text`; iterate with ``async for``."""
        dialog, given = self._turn(inputs, kwargs)
        return self.llm.stream_text(dialog, **given)  # type: ignore[no-any-return]

    async def save(self, path: str | os.PathLike[str]) -> None:
        """See `Session.save`."""
        import asyncio  # here, to keep the package's import fast

        await asyncio.to_thread(write_messages, path, self.messages)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class HoldsSessions:
    """The methods of `BaseLLM` that make sessions."""

    def session(
        self, system: str | None = None, messages: Sequence[Message] = (), **kwargs: Unpack[CallKwargs]
    ) -> Session:
        """Begin a dialog whose turns are remembered: ``session.chat("…")`` gives only what is new.

        Any number of sessions may be held at once. ``with llm.session() as session:`` ends it.

        Args:
            system: The system prompt; None leaves it to the template.
            messages: Messages that the dialog begins with, after `system`.
            **kwargs: Parameters of every turn; those of a turn replace them.

        Raises:
            LLMError: The backend is closed, or an argument is not allowed.
        """
        return Session(self, system=system, messages=messages, **kwargs)

    def load_session(self, path: str | os.PathLike[str], **kwargs: Unpack[CallKwargs]) -> Session:
        """Begin a session with the messages of a file that `Session.save` has written, on any backend.

        Args:
            path: The file.
            **kwargs: See `session`.

        Raises:
            ConfigError: The file cannot be read, is no saved session, or one of a later version.
        """
        return Session(self, messages=read_messages(path), **kwargs)


class AsyncHoldsSessions:
    """The methods of `AsyncBaseLLM` that make sessions."""

    def session(
        self, system: str | None = None, messages: Sequence[Message] = (), **kwargs: Unpack[CallKwargs]
    ) -> AsyncSession:
        """See `BaseLLM.session`; not a coroutine."""
        return AsyncSession(self, system=system, messages=messages, **kwargs)

    async def load_session(self, path: str | os.PathLike[str], **kwargs: Unpack[CallKwargs]) -> AsyncSession:
        """See `BaseLLM.load_session`."""
        import asyncio  # here, to keep the package's import fast

        return AsyncSession(self, messages=await asyncio.to_thread(read_messages, path), **kwargs)


def _allowed(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, unless it sets what a session sets itself."""
    if wrong := [name for name in _OWN if name in given]:
        raise InvalidArgument(f"{wrong[0]}: a session object sets it itself", argument=wrong[0])
    return dict(given)


def _opening(system: object, messages: Sequence[Message], core: LLMCore) -> tuple[Message, ...]:
    """The checked messages that a dialog begins with."""
    if system is not None and (not isinstance(system, str) or not system):
        raise validators.refusal("system", system, "None or a text that is not empty")
    if system is not None:
        validators.encodable_text("system", system)
    before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
    after = [] if messages in ((), []) else check_messages(messages, "messages", core.message_of)
    return deepcopy((*before, *after))


def _copy_of(cls: Any, llm: Any, messages: list[Message], defaults: Mapping[str, Any]) -> Any:
    """Return a session that begins with `messages`: what pickles of sessions call."""
    return cls(llm, messages=messages, **defaults)
