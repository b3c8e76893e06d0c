"""Check the messages of a call and bring every form that callers have into OpenAI's. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from operator import countOf
from typing import Any

from . import validators
from .content_parts import check_part
from .errors import InvalidArgument
from .schema import Completion, Message, ToolCall

__all__ = ["RESULT_ROLES", "check_messages", "with_call_ids"]

#: Roles of a tool's result: OpenAI's, lagent's, and OpenAI's former one.
RESULT_ROLES = ("tool", "environment", "function")
#: Fields of lagent's AgentMessage that are not part of a chat message.
_LAGENT_FIELDS = frozenset({"sender", "formatted", "extra_info", "type", "receiver", "stream_state"})


def check_messages(
    messages: object,
    argument: str = "inputs",
    message_of: Callable[[Completion], Message] = Completion.message,
) -> list[Message]:
    """Check the messages and return them in OpenAI's form, ready to be rendered or sent.

    A message is a dict, an object of OpenAI's SDK or of lagent, or a `Completion`. Its tool calls may be
    `ToolCall` objects, OpenAI's objects or dicts, or dicts with ``name`` and ``arguments``. Images, audio,
    video and files become parts with URLs or data; see `content_parts.check_part`.

    Args:
        messages: The messages.
        argument: The argument that they were given with, for errors.
        message_of: Makes the message of a `Completion`.

    Raises:
        InvalidArgument: The list is empty, a message is no dict, role or content is missing, or a part of a
            message cannot be sent.
    """
    found = [*messages] if type(messages) is list else validators.listed(messages)
    if found is None or isinstance(messages, (set, frozenset)):
        raise InvalidArgument(
            f"{argument}: expected a list of messages, got {type(messages).__name__}", argument=argument
        )
    if not found:
        raise InvalidArgument(f"{argument}: the list of messages is empty", argument=argument)
    for index, message in enumerate(found):
        if (
            type(message) is dict
            and len(message) == 2
            and type(role := message.get("role")) is str
            and type(content := message.get("content")) is str
        ):
            if not (role.isascii() and content.isascii()):
                validators.encodable_text(argument, role, index, "role")
                validators.encodable_text(argument, content, index, "content")
            continue
        given = message_of(message) if isinstance(message, Completion) else message
        found[index] = _checked(given, argument, index)
    return found


def _checked(message: object, argument: str, index: int) -> Message:
    where = f"{argument}[{index}]"
    given = validators.to_builtin(message)
    if not isinstance(given, Mapping):
        raise InvalidArgument(
            f"{where}: a message is a dict with 'role' and 'content', got {type(message).__name__}",
            argument=argument,
        )
    fields = {key: value for key, value in given.items() if value is not None or key == "content"}
    if "sender" in fields:
        fields = {"role": _role_of(fields["sender"])} | {
            key: value for key, value in fields.items() if key not in _LAGENT_FIELDS
        }
    if not isinstance(fields.get("role"), str):
        raise InvalidArgument(f"{where}: 'role' is missing or no string", argument=argument)
    _collect_tool_calls(fields, argument, index)
    content = fields.get("content")
    if not isinstance(content, (str, type(None))) and (parts := validators.listed(content)) is not None:
        fields["content"] = [check_part(part, argument, index, number) for number, part in enumerate(parts)]
    checked: dict[str, Any] = validators.plain(argument, fields, index)
    if "content" not in checked:
        raise InvalidArgument(f"{where} (role {checked['role']!r}): 'content' is missing", argument=argument)
    if not isinstance(content := checked.get("content"), (str, list, type(None))):
        raise InvalidArgument(
            f"{where} (role {checked['role']!r}): 'content' is a {type(content).__name__}, expected a string "
            "or a list of parts",
            argument=argument,
        )
    return checked


def _role_of(sender: object) -> str:
    """The role of a message of lagent by its sender, as lagent's aggregators have it."""
    if sender == "user":
        return "user"
    return "environment" if str(sender).endswith("ActionExecutor") else "assistant"


def _collect_tool_calls(fields: dict[str, Any], argument: str, index: int) -> None:
    """Bring the tool calls in `fields`, and OpenAI's former ``function_call``, into OpenAI's form."""
    former = fields.pop("function_call", None)
    given = fields.pop("tool_calls", [] if former is None else [former])
    if (calls := validators.listed(given)) is None:
        raise InvalidArgument(
            f"{argument}[{index}]: 'tool_calls' is a {type(given).__name__}, expected a list",
            argument=argument,
        )
    if calls:
        fields.setdefault("content", None)
        fields["tool_calls"] = [
            _tool_call(call, argument, index, number) for number, call in enumerate(calls)
        ]


def _tool_call(call: object, argument: str, index: int, number: int) -> dict[str, Any]:
    if isinstance(call, ToolCall):
        call = {"id": call.id, "name": call.name, "arguments": call.arguments}
    where = f"{argument}[{index}]['tool_calls'][{number}]"
    fields = _fields_of(call)
    function = _fields_of(fields.pop("function", None)) or fields
    name = function.get("name")
    if not isinstance(name, str) or not name:
        allowed = "a ToolCall or a dict {'function': {'name': …, 'arguments': …}}"
        raise validators.refusal(where, call, allowed, argument)
    arguments = function.get("arguments", function.get("parameters", {}))
    if not isinstance(arguments, str):
        known = validators.plain(argument, arguments, index, "tool_calls", number, "arguments")
        if not isinstance(known, dict):
            raise validators.refusal(f"{where}['arguments']", arguments, "a dict or JSON text", argument)
        arguments = json.dumps(known, ensure_ascii=False)
    identifier = fields.pop("id", "")
    others = {key: value for key, value in fields.items() if key not in _OF_A_CALL}
    return {
        **({"id": identifier} if identifier else {}),
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **others,
    }


#: Keys of a tool call that `_tool_call` writes anew, and the index of a streamed part.
_OF_A_CALL = frozenset({"type", "name", "arguments", "parameters", "index"})


def _fields_of(value: object) -> dict[str, Any]:
    """The fields of a dict or of an object of pydantic, without those that are None; {} of anything else."""
    known = validators.to_builtin(value)
    if not isinstance(known, Mapping):
        return {}
    return {key: item for key, item in known.items() if item is not None}


def with_call_ids(messages: Sequence[Message]) -> Sequence[Message]:
    """Add ids to tool calls without one, and to results without one that of the next unanswered call.

    Args:
        messages: A whole dialog, as `check_messages` returns it.

    Returns:
        The dialog; new ids are nine letters and digits, the only form that the strictest templates take.
    """
    if countOf(map(len, messages), 2) == len(messages):  # no message has tool calls
        return messages
    result: list[Message] = []
    open_calls: list[str] = []
    count = 0
    for message in messages:
        if calls := message.get("tool_calls"):
            calls = [
                call if call.get("id") else {"id": f"call{number:05d}", **call}
                for number, call in enumerate(calls, count)
            ]
            count += len(calls)
            open_calls = [call["id"] for call in calls]
            message = {**message, "tool_calls": calls}
        elif message["role"] in RESULT_ROLES and open_calls:
            given = message.get("tool_call_id")
            if given in open_calls:
                open_calls.remove(given)
            elif not given and message["role"] == "tool":
                message = {**message, "tool_call_id": open_calls.pop(0)}
        result.append(message)
    return result
