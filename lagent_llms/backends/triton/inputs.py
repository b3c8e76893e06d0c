"""The inputs of one request, shaped as the model's config wants them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from ...errors import InvalidArgument
from .model_config import ModelConfig, TensorSpec
from .tensors import Tensor, fits

__all__ = ["Inputs"]


class Inputs:
    """Collects the tensors of one request; datatypes, dimensions and optional names come from the config.

    Args:
        config: The model's.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._tensors: list[Tensor] = []

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that were put."""
        return tuple(self._tensors)

    def has(self, *names: str) -> bool:
        """Whether the model takes any of `names`."""
        return any(name in self._config.inputs for name in names)

    def put(self, name: str | Sequence[str], *values: Any) -> bool:
        """Give an input its values; of several names the one that the model has.

        Returns:
            False when the model has no such input.

        Raises:
            InvalidArgument: The model's input cannot hold a value.
        """
        for candidate in (name,) if isinstance(name, str) else name:
            spec = self._config.inputs.get(candidate)
            if spec is not None:
                kind = _CONVERSIONS.get(spec.datatype, int)
                shape = _shape(spec, len(values), self._config.max_batch_size > 0)
                converted = tuple(kind(value) for value in values)
                if not fits(spec.datatype, converted):
                    shown = values[0] if len(values) == 1 else values
                    raise InvalidArgument(
                        f"{candidate}={shown!r}: the model's input is {spec.datatype}", argument=candidate
                    )
                self._tensors.append(Tensor(candidate, spec.datatype, shape, converted))
                return True
        return False

    def update(self, values: Mapping[str, Any]) -> None:
        """Give several inputs one value each; those that the model has not are left out."""
        for name, value in values.items():
            self.put(name, value)


_CONVERSIONS: dict[str, Any] = {"BYTES": str, "BOOL": bool, "FP16": float, "FP32": float, "FP64": float}


def _shape(spec: TensorSpec, count: int, batched: bool) -> tuple[int, ...]:
    """The config's dimensions with what is open in them filled in, from the last one on."""
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
