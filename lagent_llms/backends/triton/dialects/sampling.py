"""Temperature, top_k and top_p as inputs of a model: temperature=0 is greedy, top_k=None no filter. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ....core.request import Request
from ....params import GenerationParams
from ..dialect import Model, unsupported

__all__ = ["sampling"]

_DEFAULTS = GenerationParams()
#: Parameter -> the value that changes nothing.
_NO_OP = {"temperature": 1, "top_k": None, "top_p": 1}
_NAMES = {name: name for name in _NO_OP}


def sampling(
    request: Request, model: Model, dialect: str, names: Mapping[str, str] = _NAMES
) -> dict[str, float | int]:
    """Return input names and values for temperature, top_k and top_p.

    To these servers top_k=1 is greedy and top_k=0 is no filter; the meaning of a temperature of 0 differs.

    Args:
        request: The caller's request.
        model: The model.
        dialect: Name of its dialect.
        names: Parameter of this library -> input.

    Raises:
        UnsupportedParameter: The model has no input for a value that is neither a default nor a no-op.
    """
    params = request.params
    if params.temperature == 0:
        if names["top_k"] not in model.config.inputs:
            raise unsupported(dialect, model, "temperature", 0, f"it has no input {names['top_k']}")
        return {names["top_k"]: 1}
    values = {}
    for parameter, name in names.items():
        if not request.sends(parameter):
            continue
        value = getattr(params, parameter)
        if name in model.config.inputs:
            values[name] = value or 0
        elif value not in (_NO_OP[parameter], getattr(_DEFAULTS, parameter)):
            raise unsupported(dialect, model, parameter, value, f"it has no input {name}")
    return values
