"""Batches: detect them, give each input its own keywords, and gather results and failures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import BatchError, InvalidArgument
from ..params import PARAMETERS
from ..schema import Completion
from .request import Input

__all__ = ["check_prompt", "check_prompts", "gather", "is_batch", "split", "with_sessions"]

_T = TypeVar("_T")


def is_batch(inputs: object) -> bool:
    """True if `inputs` is a list of prompts or dialogs, not one prompt or dialog."""
    if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Sequence) or not inputs:
        return False
    first = inputs[0]
    return isinstance(first, (str, Sequence)) and not isinstance(first, (bytes, Mapping))


def check_prompt(inputs: object) -> str:
    """Check that `inputs` is a string, and return it.

    Raises:
        InvalidArgument: It is something else.
    """
    if not isinstance(inputs, str):
        raise InvalidArgument(
            f"inputs: expected a prompt (str), got {type(inputs).__name__}; messages go to chat()",
            argument="inputs",
        )
    return inputs


def check_prompts(inputs: object) -> list[str]:
    """Check that `inputs` is a sequence of strings, and return it as a list.

    Raises:
        InvalidArgument: It is something else.
    """
    if not isinstance(inputs, Sequence) or isinstance(inputs, bytes):
        raise InvalidArgument(
            f"inputs: expected a prompt (str) or a list of prompts, got {type(inputs).__name__}",
            argument="inputs",
        )
    for index, prompt in enumerate(inputs):
        if not isinstance(prompt, str):
            raise InvalidArgument(
                f"inputs[{index}]: expected a prompt (str), got {type(prompt).__name__}; "
                "messages go to chat()",
                argument="inputs",
            )
    return list(inputs)


def with_sessions(given: Mapping[str, Any], session_ids: int | Sequence[int] | None) -> dict[str, Any]:
    """`given` with lagent's ``session_ids`` as ``session_id``.

    Raises:
        InvalidArgument: Both names are given, with different values.
    """
    if session_ids is None:
        return dict(given)
    if given.get("session_id", session_ids) != session_ids:
        raise InvalidArgument("session_ids and session_id are both given", argument="session_ids")
    return {**given, "session_id": session_ids}


#: Keywords that may be a list with one value for each input of a batch.
_PER_INPUT = [name for row in PARAMETERS.values() if row.per_input for name in (row.name, row.alias) if name]


def split(inputs: Sequence[Input], given: Mapping[str, Any]) -> list[tuple[Input, dict[str, Any]]]:
    """Each input with its own keywords: the values of `_PER_INPUT` lists are distributed.

    Raises:
        InvalidArgument: A list has another length than `inputs`.
    """
    per_input = {
        name: given[name]
        for name in _PER_INPUT
        if isinstance(given.get(name), Sequence) and not isinstance(given[name], str)
    }
    for name, values in per_input.items():
        if len(values) != len(inputs):
            raise InvalidArgument(
                f"{name}: {len(values)} values for {len(inputs)} inputs; one for each is needed",
                argument=name,
            )
    return [
        (item, {**given, **{name: values[index] for name, values in per_input.items()}})
        for index, item in enumerate(inputs)
    ]


def gather(outcomes: Sequence[Completion | Exception], pick: Callable[[Completion], _T]) -> list[_T]:
    """`pick` of each completion, in order.

    Raises:
        BatchError: At least one outcome is an exception; carries all of them.
    """
    results = [item if isinstance(item, Exception) else pick(item) for item in outcomes]
    failed = [index for index, item in enumerate(results) if isinstance(item, Exception)]
    if failed:
        cause = results[failed[0]]
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise BatchError(
            f"inputs[{failed[0]}]{more} failed: {cause}; the other {len(results) - len(failed)} results are "
            "in .results",
            index=failed[0],
            results=results,
        ) from (cause if isinstance(cause, Exception) else None)
    return [item for item in results if not isinstance(item, Exception)]
