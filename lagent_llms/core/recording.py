"""Put calls into a cache and a journal. Imported by backends that have either."""

from __future__ import annotations

import inspect
import json
import logging
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import msgspec

from ..content_parts import without_data
from ..messages import RESULT_ROLES
from ..params import ALIASES, PARAMETERS, SWITCHES, GenerationParams
from ..store.journal import Call
from .replay import RecordedAnswer, ReplayedAnswer

if TYPE_CHECKING:
    from ..schema import Completion, Message
    from ..store.cache import AnswerCache
    from ..store.journal import Journal
    from .request import Request

__all__ = ["Recorder", "Recording", "identity_of", "messages_text"]

_log = logging.getLogger("lagent_llms.store")

#: Part of every key; raised when answers are stored or made in another way.
_FORMAT = 1
#: What values that are no JSON, or no Unicode, fail with.
_NO_JSON = (TypeError, ValueError, RecursionError, OverflowError)
#: Names of arguments that are objects (an engine, a function): they are known in this process only.
_objects: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


class Recorder:
    """Records the calls of one backend.

    Args:
        cache: Gets the answers of deterministic calls, and gives them back.
        journal: Gets every call.
    """

    def __init__(self, cache: AnswerCache | None, journal: Journal | None) -> None:
        self.cache, self.journal = cache, journal
        self._identity: list[Any] | None = None

    def begin(self, llm: Any, request: Request) -> Recording:
        """Begin to record a call."""
        return Recording(self, llm, request)

    def key(self, llm: Any, request: Request, model: str) -> bytes | None:
        """What the answer to `request` is known by; None if it contains a value that cannot be compared.

        Args:
            llm: The backend.
            request: The request.
            model: The `KeepsCalls.served_model`.
        """
        if self._identity is None:
            self._identity = identity_of(llm)
        parts = [
            _FORMAT,
            *self._identity,
            model,
            request.prompt,
            request.messages if request.prompt is None else None,
            request.stop_words,
            request.add_bos,
            _parameters(request),
        ]
        try:
            return sha256(msgspec.json.encode(parts, enc_hook=_plain, order="deterministic")).digest()
        except _NO_JSON as error:
            _log.info("not cached: %s", error)
            return None


class Recording:
    """One call on its way into the cache and the journal.

    Args:
        recorder: The recorder of its backend.
        llm: The backend.
        request: The call.

    Attributes:
        looks_up: Whether the cache may have the answer: the call is deterministic, and no part of its session
            is held by the server, which would not see this turn.
    """

    __slots__ = ("_began", "_call", "_key", "_llm", "_model", "_recorder", "_request", "looks_up")

    def __init__(self, recorder: Recorder, llm: Any, request: Request) -> None:
        self._recorder, self._llm, self._request = recorder, llm, request
        self._began = time.monotonic()
        self._model = ""
        self._key: bytes | None = None
        self._call: Call | None = None
        params = request.params
        repeats = params.temperature == 0 or params.top_k == 1 or params.seed is not None
        self.looks_up = recorder.cache is not None and repeats and request.held is None
        if (journal := recorder.journal) is not None:
            journal.start()
            content = journal.content
            self._call = Call(
                time.time(),
                type(llm).__name__.removeprefix("Async"),
                {name: value for name, value in _parameters(request).items() if value is not None},
                messages_text(request.messages) if content and request.messages is not None else None,
                request.prompt if content else None,
                llm.secrets(),
            )

    def look_up(self, model: str) -> ReplayedAnswer | None:
        """The cached answer of `model`, None if there is none. May wait for a disk."""
        self.looks_up, self._model = False, model
        cache = self._recorder.cache
        assert cache is not None
        self._key = self._recorder.key(self._llm, self._request, model)
        if self._key is None or (stored := cache.get(self._key)) is None:
            return None
        self._key = None
        return ReplayedAnswer(stored, cached=True)

    def end(
        self,
        answer: RecordedAnswer,
        completion: Completion | None,
        error: BaseException | None,
        attempts: int,
    ) -> None:
        """Keep the answer and the call. Neither blocks nor fails; called once."""
        recorder, call = self._recorder, self._call
        if self._key is not None and completion is not None and recorder.cache is not None:
            recorder.cache.put(self._key, answer.chunks, completion)
        if call is not None and recorder.journal is not None:
            llm: Any = self._llm
            names = (getattr(llm, "model_name", None), getattr(llm, "path", None), self._model)
            call.model = self._request.options.adapter_name or str(next(filter(None, names), ""))
            call.seconds = time.monotonic() - self._began
            call.first_token = None if answer.first_at is None else answer.first_at - self._began
            call.attempts = attempts
            call.chunks, call.completion, call.error = answer.chunks, completion, error
            recorder.journal.put(call)


def messages_text(messages: list[Message]) -> str:
    """Messages as JSON, the same for equal ones.

    Results of tools have the role ``tool``; large data of images, audio and files are their SHA-256.
    """
    same = [{**item, "role": "tool"} if item.get("role") in RESULT_ROLES else item for item in messages]
    same = [
        {**item, "content": without_data(item["content"])} if isinstance(item.get("content"), list) else item
        for item in same
    ]
    try:
        return msgspec.json.encode(same, enc_hook=_plain, order="deterministic").decode()
    except _NO_JSON:
        return json.dumps(same, default=repr, sort_keys=True)


def _parameters(request: Request) -> dict[str, Any]:
    """The parameters that may change the answer, without those whose default is the server's."""
    params, options = request.params, request.options
    return {
        row.name: getattr(params if row.table is GenerationParams else options, row.name)
        for row in PARAMETERS.values()
        if row.changes_answer
        and row.name != "stop_words"  # `Request.stop_words` has those that apply
        and (options.sampling == "client" or row.table is not GenerationParams or row.name in params.given)
    }


def identity_of(llm: Any) -> list[Any]:
    """The class of a backend, and those arguments of its constructor that identify the model."""
    cls = type(llm)
    args, kwargs = llm._arguments
    bound = inspect.signature(cls.__init__).bind(llm, *args, **kwargs)
    given: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        is_rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        given.update(value if is_rest else {name: value})
    given = {
        name: _identified(value)
        for name, value in given.items()
        if name not in cls.neutral_arguments
        and name not in PARAMETERS
        and name not in ALIASES
        and name not in SWITCHES
        and value is not llm
        and value is not None
    }
    return [f"{cls.__module__}.{cls.__qualname__.removeprefix('Async')}", given]


def _identified(value: Any) -> Any:
    """A value by which an argument is known: files by name, size and time; an object only by itself."""
    if isinstance(value, (str, os.PathLike)):
        text = os.fsdecode(value)
        return [text, _files(text)]
    try:
        return json.loads(msgspec.json.encode(value, enc_hook=_plain))
    except _NO_JSON:
        pass
    if isinstance(value, (tuple, list)):
        return [*map(_identified, value)]
    try:
        return _objects.setdefault(value, uuid4().hex)
    except TypeError:  # it has no weak references, or no hash
        return uuid4().hex


def _files(text: str) -> list[tuple[str, int, int]]:
    try:
        path = Path(text).expanduser()
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [(item.name, item.stat()) for item in files if item.is_file()]
    except (OSError, ValueError, RuntimeError):  # a text that is no path
        return []
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if hasattr(value, "model_dump"):  # LoRAX's merged adapters
        return value.model_dump()
    raise TypeError(f"a {type(value).__name__} has no form that can be compared")
