"""Read a PEFT LoRA adapter and merge it into the weights of the base model."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError
from .settings import Settings, read_json
from .tensors import Tensors

__all__ = ["LoraAdapter"]

_PREFIX = "base_model.model."
#: Settings that this module honours, or that have no effect after training. Others must be off.
_SUPPORTED = {
    "alpha_pattern",
    "auto_mapping",
    "bias",  # trained biases are tensors of the adapter
    "corda_config",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_ga_config",
    "modules_to_save",  # whole weights are tensors of the adapter
    "rank_pattern",
    "runtime_config",
    "target_modules",
    "use_rslora",
}
#: Initialisations that leave the base model as it is.
_INITIALISATIONS = (None, True, False, "gaussian", "eva", "orthogonal")


class LoraAdapter:
    """The tensors of one adapter: low-rank updates (arXiv 2106.09685) and weights that replace the base's.

    Args:
        path: Directory with adapter_config.json and adapter_model.safetensors.

    Raises:
        ModelLoadError: The directory does not hold a LoRA adapter, or the adapter uses a feature that cannot
            be merged.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "adapter_config.json").is_file():
            raise ModelLoadError(f"{path}: there is no adapter_config.json; expected a PEFT LoRA adapter")
        config = Settings(read_json(path / "adapter_config.json"), f"{path}: adapter_config.json")
        self._config, self._path = config, path
        if config.get("peft_type") != "LORA":
            config.fail("peft_type", "'LORA'")
        for key, value in config.items():
            if key not in _SUPPORTED and (value is True or (value and isinstance(value, (list, dict)))):
                config.fail(key, "null or false")
        if config.get("init_lora_weights") not in _INITIALISATIONS:
            config.fail(
                "init_lora_weights",
                "one that leaves the base model unchanged; peft converts such an adapter: "
                "save_pretrained(…, path_initial_model_for_weight_conversion=…)",
            )
        self._rank, self._alpha = config.integer("r"), config.number("lora_alpha", positive=False)
        self._rslora = config.flag("use_rslora")
        self._ranks, self._alphas = config.table("rank_pattern"), config.table("alpha_pattern")
        if not (path / "adapter_model.safetensors").is_file():
            raise ModelLoadError(f"{path}: there is no adapter_model.safetensors")
        self._tensors = Tensors([path / "adapter_model.safetensors"])
        self._unused = set(self._tensors.names)

    def merge(self, name: str, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return `weight`, the base model's tensor `name`, with this adapter merged, if it has an update."""
        module, _, kind = name.rpartition(".")
        for replacement in (name, f"{module}.base_layer.{kind}"):
            if self._has(replacement):
                weight = self._take(replacement, weight.shape)
        if kind != "weight":
            return weight
        rank = _of_module(self._ranks, module) or self._rank
        for first, second, transposed in (
            ("lora_A.weight", "lora_B.weight", False),
            ("lora_embedding_A", "lora_embedding_B", True),
        ):
            if not self._has(f"{module}.{first}"):
                continue
            rows, columns = weight.shape[::-1] if transposed else weight.shape
            down = self._take(f"{module}.{first}", (rank, columns)).astype(np.float32)
            up = self._take(f"{module}.{second}", (rows, rank)).astype(np.float32)
            delta = self._scale(module, rank) * (up @ down)
            weight = weight.astype(np.float32) + (delta.T if transposed else delta)
        return weight

    def check_used(self) -> None:
        """Check that every tensor was merged.

        Raises:
            ModelLoadError: The model has no weight for one: the adapter belongs to another model, or trains
                what the network does not have.
        """
        if self._unused:
            raise ModelLoadError(
                f"{self._path}: the model has no weight for {sorted(self._unused)[0].removeprefix(_PREFIX)!r}"
            )

    def _has(self, name: str) -> bool:
        return _PREFIX + name in self._tensors.names

    def _take(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        self._unused.discard(_PREFIX + name)
        return self._tensors.get(_PREFIX + name, shape)

    def _scale(self, module: str, rank: int) -> float:
        alpha = _of_module(self._alphas, module)
        alpha = self._alpha if alpha is None else alpha
        return alpha / math.sqrt(rank) if self._rslora else alpha / rank


def _of_module(table: Settings, module: str) -> Any:
    """Value of the first key of `table` that is a regular expression for the end of a module's name."""
    for pattern, _ in table.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return table.integer(pattern)
        except re.error:
            table.fail(pattern, "a regular expression as the key")
    return None
