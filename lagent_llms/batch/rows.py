"""The rows of a batch: from records (mappings) to inputs and parameters of calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..core.parameters import suggestion
from ..core.request import Input
from ..errors import InvalidArgument, LLMError, UnknownParameter
from ..params import ALIASES, PARAMETERS
from .identities import Identity, content_hash, identity
from .prompt_template import PromptTemplate

__all__ = ["BadRecord", "Row", "RowReader", "read_call"]

#: Keys of a record that are not parameters of its call.
_OWN = frozenset({"id", "prompt", "messages"})
#: Fields of a body in OpenAI's batch form that have another name, or no meaning, here.
_OPENAI: dict[str, str] = {
    **{row.wire: row.name for row in PARAMETERS.values() if row.wire},
    "max_completion_tokens": "max_new_tokens",
    "stop": "stop_words",
}
_IGNORED = {"model", "stream", "stream_options", "user", "metadata", "store"}
_ROUTES = ("/v1/chat/completions", "/v1/completions")


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A line that is no record; it becomes a row with an error.

    Attributes:
        message: What is wrong, with its line.
        content: The line.
    """

    message: str
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the input.

    Attributes:
        position: Its place in the input, from 0.
        id: Its id, None without one.
        identity: What it is known by.
        content: The hash of its content, 16 hexadecimal digits.
        inputs: The prompt, or the messages.
        parameters: Parameters of its call.
        error: Why it cannot run, None if it can.
    """

    position: int
    id: str | int | None
    identity: Identity
    content: str
    inputs: Input = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    error: LLMError | None = None


class RowReader:
    """Makes rows of records.

    A record is a prompt (a string), ``{"prompt": …}``, ``{"messages": …}`` or OpenAI's batch form
    (``custom_id``, ``method``, ``url``, ``body``). Other keys are an ``id`` and parameters of the call. With
    a prompt template, all keys are columns for it.

    Args:
        records: The records.
        template: Makes the prompt or the messages of a record.
        strict: Raise the error of a bad record.

    Raises:
        InvalidArgument: The first record lacks a column of the template.
    """

    def __init__(
        self, records: Iterable[Any], *, template: PromptTemplate | None = None, strict: bool = False
    ) -> None:
        self._records = enumerate(records)
        self._template = template
        self._strict = strict
        self._first: list[tuple[int, Any]] = []
        if template is not None and (first := next(self._records, None)) is not None:
            self._first.append(first)
            if isinstance(first[1], Mapping):
                template.check_columns(first[1])

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        """The next row.

        Raises:
            InvalidArgument, UnknownParameter: With `strict`, the record cannot be used.
        """
        position, record = self._first.pop() if self._first else next(self._records)
        row = self._row(position, record)
        if self._strict and row.error is not None:
            raise row.error
        return row

    def _row(self, position: int, record: Any) -> Row:
        if isinstance(record, BadRecord):
            return self._bad(position, None, record.content, InvalidArgument(record.message))
        if isinstance(record, str):
            record = {"prompt": record}
        name: str | int | None = None
        try:
            content = msgspec.json.encode(record, order="deterministic")
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return self._bad(
                position, None, b"", InvalidArgument(f"row {position}: no values of JSON: {error}")
            )
        try:
            if not isinstance(record, Mapping):
                raise InvalidArgument(f"row {position}: expected an object, got {type(record).__name__}")
            name = _name(record, position)
            if "body" in record and "custom_id" in record:
                inputs, parameters = _openai(record, position)
            elif self._template is not None:
                inputs, parameters = self._template.fill(record, position), {}
            else:
                inputs, parameters = _plain(record, position)
        except LLMError as error:
            return self._bad(position, name, content, error)
        if self._template is not None:
            content += self._template.source.encode()
        digest = content_hash(content)
        return Row(position, name, identity(position, name, digest), digest, inputs, parameters)

    @staticmethod
    def _bad(position: int, name: str | int | None, content: bytes, error: LLMError) -> Row:
        digest = content_hash(content)
        return Row(position, name, identity(position, name, digest), digest, error=error)


def _name(record: Mapping[str, Any], position: int) -> str | int | None:
    name = record.get("custom_id", record.get("id"))
    if name is None or (isinstance(name, (str, int)) and not isinstance(name, bool)):
        return name
    raise InvalidArgument(f"row {position}: id={name!r}: allowed is text or an integer", argument="id")


def _plain(record: Mapping[str, Any], position: int) -> tuple[Input, dict[str, Any]]:
    found = [key for key in ("prompt", "messages") if record.get(key) is not None]
    if len(found) != 1:
        what = "both 'prompt' and 'messages'" if found else "neither 'prompt' nor 'messages'"
        raise InvalidArgument(f"row {position}: it has {what}", argument="inputs")
    parameters = {key: value for key, value in record.items() if key not in _OWN}
    for key in parameters:
        _check_known(key, f"row {position}: ")
    return record[found[0]], parameters


def _openai(record: Mapping[str, Any], position: int) -> tuple[Input, dict[str, Any]]:
    body, route, method = record["body"], record.get("url", _ROUTES[0]), record.get("method", "POST")
    if not isinstance(body, Mapping):
        raise InvalidArgument(f"row {position}: body: expected an object", argument="body")
    if route not in _ROUTES:
        raise InvalidArgument(
            f"row {position}: url={route!r}: allowed is {' or '.join(_ROUTES)}", argument="url"
        )
    if method != "POST":
        raise InvalidArgument(f"row {position}: method={method!r}: allowed is 'POST'", argument="method")
    key = "messages" if route == _ROUTES[0] else "prompt"
    if body.get(key) is None:
        raise InvalidArgument(f"row {position}: body: {key!r} is missing", argument="body")
    return body[key], _openai_parameters(body, key, f"row {position}: ")


def _openai_parameters(body: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        _OPENAI.get(name, name): value
        for name, value in dict[str, Any](body).items()
        if name != key and name not in _IGNORED and value is not None and (name, value) != ("n", 1)
    }
    if "top_logprobs" in parameters:
        parameters["logprobs"] = parameters.pop("top_logprobs")
    for name in parameters:
        _check_known(name, where)
    return parameters


def read_call(value: Any, parameters: Mapping[str, Any] | None = None) -> tuple[Input, dict[str, Any]]:
    """The input and the parameters of a call that one value describes.

    Args:
        value: A prompt, messages, or a body in OpenAI's form: ``prompt`` or ``messages`` with parameters.
        parameters: Further parameters, by the names here or OpenAI's.

    Raises:
        InvalidArgument, UnknownParameter: The value is none of these, or names an unknown parameter.
    """
    given = _openai_parameters(parameters or {}, "", "")
    if isinstance(value, Mapping):
        found = [key for key in ("prompt", "messages") if value.get(key) is not None]
        if len(found) != 1:
            what = "both 'prompt' and 'messages'" if found else "neither 'prompt' nor 'messages'"
            raise InvalidArgument(f"the body has {what}", argument="inputs")
        return value[found[0]], {**_openai_parameters(value, found[0], ""), **given}
    if not isinstance(value, (str, list)):
        raise InvalidArgument(
            f"expected a prompt, messages or a body, got {type(value).__name__}", argument="inputs"
        )
    return value, given


def _check_known(name: str, where: str) -> None:
    if name not in PARAMETERS and name not in ALIASES:
        raise UnknownParameter(
            f"{where}unknown parameter {name!r}{suggestion(name, [*PARAMETERS, *ALIASES, *_OWN])}"
        )
