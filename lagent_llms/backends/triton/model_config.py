"""A model's config: its inputs and outputs, and how it responds. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ServerError

__all__ = ["TensorSpec", "TritonModelConfig"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: 'BYTES', 'INT32', 'FP32' …
        dims: Its dimensions without the batch dimension; -1 is variable.
        optional: Whether a request may omit it.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        """Read the config's JSON, in which numbers may be strings."""
        datatype = str(data.get("data_type", "")).removeprefix("TYPE_")
        return cls(
            str(data["name"]),
            "BYTES" if datatype == "STRING" else datatype,
            tuple(int(size) for size in data.get("dims", ())),
            bool(data.get("optional", False)),
        )

    def __str__(self) -> str:
        dims = ", ".join(map(str, self.dims))
        return f"{self.name} {self.datatype}[{dims}]{' optional' if self.optional else ''}"


@dataclass(frozen=True, slots=True)
class TritonModelConfig:
    """A model's config as the server reports it.

    Attributes:
        name: The model.
        max_batch_size: If above 0, every tensor has a leading batch dimension.
        decoupled: Whether a request may have any number of responses; otherwise it has exactly one.
        inputs: Its inputs by name.
        outputs: Its outputs by name.
        settings: The config's `parameters`: settings of the model's backend.
        steps: The models that an ensemble consists of, () for other models.
        in_sequence: Whether it is scheduled by sequences, so that a request needs a correlation id.
    """

    name: str
    max_batch_size: int
    decoupled: bool
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    settings: Mapping[str, str]
    steps: tuple[str, ...] = ()
    in_sequence: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TritonModelConfig:
        """Read the HTTP service's JSON, or the gRPC message as JSON with its original field names.

        Raises:
            ServerError: It is not a model's config.
        """
        try:
            return cls._read(data)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ServerError(f"the server sent a model config that cannot be read: {error!r}") from error

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> TritonModelConfig:
        return cls(
            name=str(data.get("name", "")),
            max_batch_size=int(data.get("max_batch_size", 0)),
            decoupled=bool(data.get("model_transaction_policy", {}).get("decoupled", False)),
            inputs=_specs(data.get("input", ())),
            outputs=_specs(data.get("output", ())),
            settings={
                key: str(value.get("string_value", "")) for key, value in data.get("parameters", {}).items()
            },
            steps=tuple(
                str(step["model_name"]) for step in data.get("ensemble_scheduling", {}).get("step", ())
            ),
            in_sequence="sequence_batching" in data,
        )


def _specs(items: Any) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in map(TensorSpec.from_json, items)}
