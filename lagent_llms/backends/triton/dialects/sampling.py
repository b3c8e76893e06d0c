"""Temperature, top_k and top_p as Triton's servers take them: 0 is greedy, None is no filter. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ....core.request import Request
from ....params import GenerationParams
from ..dialect import Model, unsupported

__all__ = ["sampling"]

_DEFAULTS = GenerationParams()
#: Values that ask for nothing.
_NEUTRAL = {"temperature": 1, "top_k": None, "top_p": 1}
_NAMES = {name: name for name in _NEUTRAL}


def sampling(
    request: Request, model: Model, dialect: str, names: Mapping[str, str] = _NAMES
) -> dict[str, float | int]:
    """Inputs that say how to draw tokens, and their values.

    For these servers top_k=1 is greedy, and top_k=0 no filter; a temperature of 0 means different things.

    Args:
        request: What is asked.
        model: Who is asked.
        dialect: Name of its dialect.
        names: Our parameters -> its inputs.

    Raises:
        UnsupportedParameter: The model has no input for a value that somebody chose.
    """
    params = request.params
    if params.temperature == 0:
        if names["top_k"] not in model.config.inputs:
            raise unsupported(dialect, model, "temperature", 0, f"it has no input {names['top_k']}")
        return {names["top_k"]: 1}
    values = {}
    for ours, theirs in names.items():
        value = getattr(params, ours)
        if theirs in model.config.inputs:
            values[theirs] = value or 0
        elif value not in (_NEUTRAL[ours], getattr(_DEFAULTS, ours)):
            raise unsupported(dialect, model, ours, value, f"it has no input {theirs}")
    return values
