"""Read a PEFT LoRA adapter and compute its update of each weight of the base model."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelLoadError
from .config import read_json
from .tensors import Tensors

__all__ = ["LoraAdapter"]

_PREFIX = "base_model.model."


class LoraAdapter:
    """Low-rank updates of one adapter (arXiv 2106.09685).

    Args:
        path: Directory with adapter_config.json and adapter_model.safetensors.

    Raises:
        ModelLoadError: The directory does not hold a LoRA adapter, or the adapter uses a feature that cannot
            be merged.
    """

    def __init__(self, path: Path) -> None:
        if not (path / "adapter_config.json").is_file():
            raise ModelLoadError(f"{path}: there is no adapter_config.json; expected a PEFT LoRA adapter")
        self._config = read_json(path / "adapter_config.json")
        self._path = path
        if (kind := self._config.get("peft_type")) != "LORA":
            raise ModelLoadError(f"{path}: adapters of type {kind!r} are not supported; allowed is 'LORA'")
        for feature in ("use_dora", "fan_in_fan_out", "modules_to_save"):
            if self._config.get(feature):
                raise ModelLoadError(f"{path}: {feature}={self._config[feature]!r} is not supported")
        if self._config.get("bias", "none") != "none":
            raise ModelLoadError(f"{path}: bias={self._config['bias']!r} is not supported; allowed is 'none'")
        if not (path / "adapter_model.safetensors").is_file():
            raise ModelLoadError(f"{path}: there is no adapter_model.safetensors")
        self._tensors = Tensors([path / "adapter_model.safetensors"])
        self._unused = {name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in self._tensors.names}

    def delta(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
        """Update of the weight `name` of `shape` (out, in), float32; None if the adapter has none."""
        module = name.removesuffix(".weight")
        if module not in self._unused:
            return None
        self._unused.discard(module)
        first, second = (f"{_PREFIX}{module}.lora_{side}.weight" for side in "AB")
        rank = int(self._setting("rank_pattern", module, self._config["r"]))
        alpha = float(self._setting("alpha_pattern", module, self._config["lora_alpha"]))
        scale = alpha / math.sqrt(rank) if self._config.get("use_rslora") else alpha / rank
        down = self._tensors.get(first, (rank, shape[1])).astype(np.float32)
        up = self._tensors.get(second, (shape[0], rank)).astype(np.float32)
        return scale * (up @ down)

    def check_used(self) -> None:
        """Check that every update was requested by `delta`.

        Raises:
            ModelLoadError: The model has no weight for an update: the adapter belongs to another model.
        """
        if self._unused:
            raise ModelLoadError(f"{self._path}: the model has no weight for {sorted(self._unused)[0]!r}")

    def _setting(self, table: str, module: str, default: Any) -> Any:
        """Value for a module in a table whose keys are regular expressions for the end of its name."""
        for pattern, value in (self._config.get(table) or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", module):
                return value
        return default
