"""Batches: detect them, give each input its own keywords, and gather results and failures. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .. import validators
from ..errors import BatchError, InvalidArgument
from ..params import PARAMETERS, CallOptions, GenerationParams
from ..schema import Completion
from ..templates.injection import EscapedPrompt
from .request import Input

__all__ = [
    "as_inputs",
    "check_prompt",
    "check_prompts",
    "gather",
    "only",
    "repeated",
    "split",
    "together",
    "with_sessions",
]

_T = TypeVar("_T")


def as_inputs(inputs: Any) -> tuple[Any, bool]:
    """`inputs`, in lists where it is several things, and whether it is a batch of prompts or dialogs.

    An empty list is a batch of none.

    Raises:
        InvalidArgument: `inputs` is a set, which has no order.
    """
    if isinstance(inputs, (str, Mapping)) or (found := _in_order("inputs", inputs)) is None:
        return inputs, False
    first = validators.to_builtin(found[0]) if found else ""
    return found, isinstance(first, Iterable) and not isinstance(first, (bytes, bytearray, Mapping))


def _in_order(name: str, value: Any) -> list[Any] | None:
    if isinstance(value, (set, frozenset)):
        raise InvalidArgument(f"{name}: a set has no order; give a list", argument=name)
    return validators.listed(value)


def check_prompt(inputs: object) -> str:
    """Check that `inputs` is a string, and return it.

    Raises:
        InvalidArgument: It is something else.
    """
    if not isinstance(inputs, str) and not isinstance(inputs := validators.to_builtin(inputs), str):
        raise InvalidArgument(
            f"inputs: expected a prompt (str), got {type(inputs).__name__}; messages go to chat()",
            argument="inputs",
        )
    return inputs


def check_prompts(inputs: object, *, encodable: bool = False) -> str | list[str]:
    """Check that `inputs` is a string or several, and return it as a string or a list.

    Args:
        inputs: The prompts.
        encodable: Refuse text that cannot be encoded as well; calls check that for each prompt alone.

    Raises:
        InvalidArgument: It is something else.
    """
    if isinstance(inputs, str) or isinstance(inputs := validators.to_builtin(inputs), str):
        checked = encodable and not isinstance(inputs, EscapedPrompt)
        return validators.encodable_text("inputs", inputs) if checked else inputs
    if (prompts := _in_order("inputs", inputs)) is None:
        raise InvalidArgument(
            f"inputs: expected a prompt (str) or a list of prompts, got {type(inputs).__name__}",
            argument="inputs",
        )
    for index, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise InvalidArgument(
                f"inputs[{index}]: expected a prompt (str), got {type(prompt).__name__}; "
                "messages go to chat()",
                argument="inputs",
            )
    return prompts if not encodable else validators.plain("inputs", prompts)


def with_sessions(given: Mapping[str, Any], session_ids: int | Iterable[int] | None) -> dict[str, Any]:
    """`given` with lagent's ``session_ids`` as ``session_id``.

    Raises:
        InvalidArgument: Both names are given, with different values.
    """
    if session_ids is None:
        return dict(given)
    ids, other = (
        value if type(value) is int or (found := _in_order(name, value)) is None else found
        for name, value in (("session_ids", session_ids), ("session_id", given.get("session_id")))
    )
    if other is not None and other != ids:
        raise InvalidArgument("session_ids and session_id are both given", argument="session_ids")
    return {**given, "session_id": ids}


#: Keywords that may be a list with one value for each input of a batch.
_PER_INPUT = [name for row in PARAMETERS.values() if row.per_input for name in (row.name, *row.aliases)]


def split(inputs: Sequence[Input], given: Mapping[str, Any]) -> list[tuple[Input, dict[str, Any]]]:
    """Each input with its own keywords: the values of `_PER_INPUT` lists are distributed.

    Raises:
        InvalidArgument: A list has another length than `inputs`.
    """
    # An iterator can be read once, but each input needs its values.
    given = {name: list(item) if isinstance(item, Iterator) else item for name, item in given.items()}
    per_input = {
        name: values
        for name in _PER_INPUT
        if name in given and (values := _in_order(name, given[name])) is not None
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


def repeated(
    calls: Sequence[tuple[Input, dict[str, Any]]],
    n: int,
    merge: Callable[[Mapping[str, Any]], tuple[GenerationParams, CallOptions]],
) -> list[tuple[Input, dict[str, Any]]]:
    """Each of `calls` `n` times, as calls of one answer; a seed is one more each time.

    Args:
        calls: Inputs and their keywords.
        n: How many answers each has.
        merge: Returns the parameters of a call.

    Raises:
        InvalidArgument: A call belongs to a session, which would not know the answer to keep.
    """
    found = []
    for item, given in calls:
        params, options = merge(given)
        if not options.stateless:
            raise InvalidArgument(
                f"n={n}: a session keeps one answer; sequence_start and sequence_end must be True",
                argument="n",
            )
        for index in range(n):
            seed = {} if params.seed is None else {"seed": (params.seed + index) % 2**63}
            found.append((item, {**given, "n": 1, **seed}))
    return found


def together(outcomes: Sequence[Completion | Exception], n: int) -> list[Completion | Exception]:
    """Of every `n` outcomes the first completion, with the others in it, or the first error."""
    found: list[Completion | Exception] = []
    for start in range(0, len(outcomes), n):
        part = outcomes[start : start + n]
        answers = [item for item in part if not isinstance(item, Exception)]
        if len(answers) == n:
            found.append(replace(answers[0], others=tuple(answers[1:])))
        else:
            found.append(next(item for item in part if isinstance(item, Exception)))
    return found


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


def only(outcomes: Sequence[Completion | Exception]) -> Completion:
    """The completion of one input.

    Raises:
        Exception: The outcome is one.
    """
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
