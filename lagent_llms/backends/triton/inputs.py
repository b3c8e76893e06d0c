"""The input tensors of one request, in the datatypes and shapes of the model's config. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ...errors import ConfigError, InvalidArgument
from .model_config import TensorSpec, TritonModelConfig
from .tensors import Tensor, fits

__all__ = ["RequestInputs"]


class RequestInputs:
    """Collects the input tensors of one request; their datatypes and dimensions come from the config.

    Args:
        config: The model's.
    """

    def __init__(self, config: TritonModelConfig) -> None:
        self._config = config
        self._tensors: list[Tensor] = []

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors put so far, and the others that the model requires, with values that change nothing.

        Raises:
            ConfigError: The model requires an input for which there is no such value.
        """
        given = {tensor.name for tensor in self._tensors}
        for spec in self._config.inputs.values():
            if not spec.optional and spec.name not in given:
                self.put(spec.name, self._neutral(spec))
        return tuple(self._tensors)

    def _neutral(self, spec: TensorSpec) -> str | bool | float:
        if spec.datatype in _NOTHING:
            return _NOTHING[spec.datatype]
        name = spec.name.lower().rpartition("param_")[2].removeprefix("runtime_")
        if name in ("seed", "random_seed"):
            return random.getrandbits(31)
        if name not in _NEUTRAL:
            raise ConfigError(
                f"model {self._config.name!r} requires the input {spec}, for which this client has no value; "
                "mark it as optional in the model's config"
            )
        return _NEUTRAL[name]

    def has(self, *names: str) -> bool:
        """Return whether the model has any of the inputs `names`."""
        return any(name in self._config.inputs for name in names)

    def put(self, name: str | Sequence[str], *values: Any) -> bool:
        """Set an input; of several names, the first that the model has.

        Returns:
            False if the model has no such input.

        Raises:
            InvalidArgument: The input's datatype cannot hold a value.
        """
        for candidate in (name,) if isinstance(name, str) else name:
            spec = self._config.inputs.get(candidate)
            if spec is not None:
                convert = _CONVERSIONS.get(spec.datatype, int)
                shape = _shape(spec, len(values), self._config.max_batch_size > 0)
                converted = tuple(convert(value) for value in values)
                if not fits(spec.datatype, converted):
                    shown = values[0] if len(values) == 1 else values
                    raise InvalidArgument(
                        f"{candidate}={shown!r}: the model's input is {spec.datatype}", argument=candidate
                    )
                self._tensors.append(Tensor(candidate, spec.datatype, shape, converted))
                return True
        return False

    def add(self, extra: Mapping[str, Any]) -> None:
        """Set the inputs of `CallOptions.extra_inputs`, each to a value or a list of values.

        Raises:
            InvalidArgument: The model has no such input, it is set already, or its datatype cannot hold the
                value.
        """
        given = {tensor.name for tensor in self._tensors}
        for name, value in extra.items():
            spec = self._config.inputs.get(name)
            where = f"extra_inputs[{name!r}]={value!r}"
            if spec is None:
                raise InvalidArgument(
                    f"{where}: model {self._config.name!r} has no such input; it has "
                    f"{', '.join(sorted(self._config.inputs))}",
                    argument="extra_inputs",
                )
            if name in given:
                raise InvalidArgument(
                    f"{where}: a parameter or the client itself sets it", argument="extra_inputs"
                )
            values = value if isinstance(value, list) else [value]
            kind = _TYPES.get(spec.datatype, (int,))
            if not all(type(item) in kind for item in values):
                raise InvalidArgument(
                    f"{where}: the model's input is {spec.datatype}", argument="extra_inputs"
                )
            try:
                self.put(name, *values)
            except InvalidArgument as error:
                raise InvalidArgument(f"extra_inputs: {error}", argument="extra_inputs") from None

    def update(self, values: Mapping[str, Any]) -> None:
        """Set several inputs to one value each; names that the model lacks are skipped."""
        for name, value in values.items():
            self.put(name, value)


#: Values that stand for "not given" in a required input; TensorRT-LLM takes an empty string as no words.
_NOTHING: dict[str, str | bool] = {"BYTES": "", "BOOL": False}
_NEUTRAL = {
    **dict.fromkeys(("beam_width", "num_return_sequences", "n", "temperature", "top_p"), 1),
    **dict.fromkeys(("len_penalty", "length_penalty", "repetition_penalty"), 1),
    **dict.fromkeys(
        ("frequency_penalty", "presence_penalty", "min_length", "min_p", "min_tokens", "top_k"), 0
    ),
}

#: Python's types of the values of a datatype; integers for the others.
_TYPES: dict[str, tuple[type, ...]] = {
    "BYTES": (str,),
    "BOOL": (bool,),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (int, float)),
}
_CONVERSIONS: dict[str, Any] = {"BYTES": str, "BOOL": bool, "FP16": float, "FP32": float, "FP64": float}


def _shape(spec: TensorSpec, count: int, batched: bool) -> tuple[int, ...]:
    """Return the config's dimensions for `count` values; the last variable dimension takes what is left."""
    fixed = prod(size for size in spec.dims if size > 0)
    left = count // fixed if fixed else count
    dims = []
    for size in reversed(spec.dims):
        if size < 0:
            dims.append(left)
            left = 1
        else:
            dims.append(size)
    return (*([1] if batched else []), *reversed(dims))
