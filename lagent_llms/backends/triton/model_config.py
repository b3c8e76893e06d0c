"""What a model's config says of it: its inputs and outputs, and how it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ModelConfig", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name.
        datatype: 'BYTES', 'INT32', 'FP32' …
        dims: Its dimensions, without that of the batch; -1 is any.
        optional: Whether a request may leave it out.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]
    optional: bool

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> TensorSpec:
        """From the config's JSON, in which numbers may be strings."""
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
class ModelConfig:
    """A model as its server describes it.

    Attributes:
        name: The model.
        max_batch_size: Above 0 every tensor has a batch dimension before its own.
        decoupled: It may send any number of responses; otherwise exactly one.
        inputs: Its inputs, by name.
        outputs: Its outputs, by name.
        parameters: Settings of its backend.
        steps: The models that an ensemble consists of, () for all others.
        in_sequence: It is scheduled by sequences: a request needs a correlation id.
    """

    name: str
    max_batch_size: int
    decoupled: bool
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    parameters: Mapping[str, str]
    steps: tuple[str, ...] = ()
    in_sequence: bool = False

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ModelConfig:
        """From the config's JSON: HTTP's answer, or gRPC's message with its fields' own names."""
        return cls(
            name=str(data.get("name", "")),
            max_batch_size=int(data.get("max_batch_size", 0)),
            decoupled=bool(data.get("model_transaction_policy", {}).get("decoupled", False)),
            inputs=_specs(data.get("input", ())),
            outputs=_specs(data.get("output", ())),
            parameters={
                key: str(value.get("string_value", "")) for key, value in data.get("parameters", {}).items()
            },
            steps=tuple(
                str(step["model_name"]) for step in data.get("ensemble_scheduling", {}).get("step", ())
            ),
            in_sequence="sequence_batching" in data,
        )


def _specs(items: Any) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in map(TensorSpec.of, items)}
