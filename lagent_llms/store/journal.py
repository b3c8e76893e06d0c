"""`Journal`: every call of a backend in an SQLite file."""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import msgspec

from .. import validators
from ..copying import CopiedByArguments
from ..errors import ConfigError, ServerError
from ..redaction import redact
from ..schema import Completion, StreamChunk
from .answers import Step, completion_fields, pack
from .database import Database, Schema, checked_path
from .writer import Writer

__all__ = ["CALLS", "Call", "Journal", "hash_of_input"]

#: The tables of a journal.
CALLS = Schema(
    "journal",
    application_id=0x6C6C6D4A,
    version=1,
    statements=(
        "CREATE TABLE calls (id INTEGER PRIMARY KEY, time REAL NOT NULL, seconds REAL NOT NULL, "
        "first_token REAL, backend TEXT NOT NULL, model TEXT NOT NULL, finish_reason TEXT, "
        "cached INTEGER NOT NULL, attempts INTEGER NOT NULL, prompt_tokens INTEGER, "
        "completion_tokens INTEGER, parameters TEXT NOT NULL, error TEXT, input BLOB, messages TEXT, "
        "prompt TEXT, text TEXT, answer BLOB)",
        "CREATE INDEX calls_by_input ON calls (input)",
    ),
)
_INSERT = f"INSERT INTO calls VALUES (NULL{', ?' * 17})"


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        time: When it began, in seconds since 1970.
        backend: Name of the backend's class, without ``Async``.
        parameters: Its parameters, as far as they may change the answer.
        messages: The dialog as JSON, None where a part of it was a bare prompt.
        prompt: The whole prompt, None where the server renders it.
        secrets: What must not be written, longest first.
        model: Name of the model, '' if unknown.
        seconds: Its duration, retries included.
        first_token: Seconds until the first text of the answer, None if there was none.
        attempts: How often it was tried.
        chunks: What the caller has seen.
        completion: The answer; None if the call failed or was closed.
        error: What it failed with.
    """

    time: float
    backend: str
    parameters: Mapping[str, Any]
    messages: str | None
    prompt: str | None
    secrets: Sequence[str] = ()
    model: str = ""
    seconds: float = 0.0
    first_token: float | None = None
    attempts: int = 1
    chunks: Sequence[StreamChunk] = ()
    completion: Completion | None = None
    error: BaseException | None = None


class Journal(CopiedByArguments):
    """A file of calls, shared by threads and processes.

    A call is written right after its end by a thread; `flush` and `close` wait for that, and so does the end
    of the process. No call fails because it cannot be written: it is counted in `lost`, and logged.

    Args:
        path: The file; it is made, for its owner only, if it does not exist.
        content: False writes figures only: no prompts, answers, texts of errors, or parameters that are text.

    Raises:
        ConfigError: The file cannot be written, is no journal, or every user may write it.
    """

    def __init__(self, path: str | os.PathLike[str], *, content: bool = True) -> None:
        self.path = checked_path("journal", path, "a file")
        self.content = validators.flag("content", content)
        database = Database(self.path, CALLS, wait=30.0)
        self._writer: Writer[Call] = Writer(database, _insert if content else _insert_figures)
        weakref.finalize(self, self._writer.stop).atexit = False  # `Writer` writes the rest itself
        try:
            with database.use():
                pass
            database.close()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"the journal {self.path} cannot be written: {error}") from error

    def __repr__(self) -> str:
        return f"Journal({str(self.path)!r})"

    @property
    def lost(self) -> int:
        """Number of calls that could not be written."""
        return self._writer.lost

    def start(self) -> None:
        """Prepare for `put`; see `Writer.start`."""
        self._writer.start()

    def put(self, call: Call) -> None:
        """Write a call soon; see `Writer.put`."""
        self._writer.put(call)

    def flush(self) -> None:
        """Wait until all calls are written."""
        self._writer.flush()

    def close(self) -> None:
        """Wait until all calls are written, and close the file; a later call opens it again."""
        self._writer.close()


def hash_of_input(messages: str | None, prompt: str | None) -> bytes:
    """The key of an input: its messages as JSON, or the prompt where there are none."""
    text = f"prompt:{prompt}" if messages is None else f"messages:{messages}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _insert(connection: sqlite3.Connection, call: Call) -> None:
    secrets = [
        form for value in call.secrets for form in (value, json.dumps(value, ensure_ascii=False)[1:-1])
    ]
    clean = partial(redact, secrets=secrets)
    messages = None if call.messages is None else clean(call.messages)
    prompt = None if call.prompt is None else clean(call.prompt)
    row = (
        *_figures(call),
        clean(_json(call.parameters)),
        None if call.error is None else clean(_json(_description(call.error))),
        hash_of_input(messages, prompt),
        messages,
        prompt,
        clean("".join(chunk.delta for chunk in call.chunks)),
        _answer(call, clean),
    )
    connection.execute(_INSERT, row)


def _insert_figures(connection: sqlite3.Connection, call: Call) -> None:
    numbers = {name: value for name, value in call.parameters.items() if isinstance(value, (int, float))}
    error = None
    if call.error is not None:
        known = _description(call.error)
        error = _json({name: known[name] for name in ("type", "status") if name in known})
    connection.execute(_INSERT, (*_figures(call), _json(numbers), error, *[None] * 5))


def _figures(call: Call) -> tuple[Any, ...]:
    completion = call.completion
    usage = None if completion is None else completion.usage
    return (
        call.time,
        call.seconds,
        call.first_token,
        call.backend,
        call.model,
        None if completion is None else completion.finish_reason,
        completion is not None and completion.cached,
        call.attempts,
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
    )


def _answer(call: Call, clean: Callable[[str], str]) -> bytes:
    """The answer. One with a secret in it is in one step: parts of the secret may be in several."""
    steps = [Step.of(chunk) for chunk in call.chunks]
    text, reasoning = "".join(step.delta for step in steps), "".join(step.reasoning for step in steps)
    fields = None if call.completion is None else completion_fields(call.completion)
    seen = _json([text, reasoning, fields])
    if (cleaned := clean(seen)) == seen:
        return pack(steps, fields)
    text, reasoning, fields = msgspec.json.decode(cleaned)
    if fields is not None:
        fields = {name: value for name, value in fields.items() if name not in ("token_ids", "logprobs")}
    n_tokens = steps[-1].n_tokens
    return pack([Step(text, n_tokens, 0, text, reasoning), Step("", n_tokens)], fields)


def _description(error: BaseException) -> dict[str, Any]:
    """The error as values of JSON: its type, its message, and the fields of a `ServerError`."""
    found = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, ServerError):
        found |= {"status": error.status_code, "code": error.code, "retry_after": error.retry_after}  # type: ignore[dict-item]
    return found


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
