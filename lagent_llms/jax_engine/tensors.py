"""Read tensors by name from one or more safetensors files; errors name file and tensor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelLoadError
from .settings import Settings, read_json

__all__ = ["Tensors", "checkpoint_files"]

_FLOATS = ("F64", "F32", "F16", "BF16")


def checkpoint_files(path: Path) -> list[Path]:
    """Find the safetensors files of a checkpoint: one file, or the shards listed in its index.

    Raises:
        ModelLoadError: There is no safetensors file, or a shard is missing.
    """
    if (single := path / "model.safetensors").is_file():
        return [single]
    if (index := path / "model.safetensors.index.json").is_file():
        names = Settings(read_json(index), index.name).table("weight_map")
        shards = [path / name for name in sorted({str(name) for _, name in names.items()})]
        for shard in shards:
            if not shard.is_file():
                raise ModelLoadError(f"{index.name} lists {shard.name}, which is not in {path}")
        return shards
    if pickled := sorted(item.name for item in path.glob("*.bin")):
        raise ModelLoadError(
            f"{path}: {pickled[0]} is a pickle, which is not supported; convert it to safetensors "
            "(transformers: model.save_pretrained(directory))"
        )
    raise ModelLoadError(f"{path}: there is no model.safetensors and no model.safetensors.index.json")


class Tensors:
    """Lazy access to the tensors of several files by name.

    Args:
        files: Paths of safetensors files.

    Raises:
        ModelLoadError: A file is damaged or not a safetensors file.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._handles: dict[str, tuple[Path, Any]] = {}
        for path in files:
            try:
                handle: Any = safe_open(str(path), framework="numpy")
                self._handles.update(dict.fromkeys(handle.keys(), (path, handle)))
            except (SafetensorError, OSError) as error:
                raise ModelLoadError(f"{path}: damaged or not a safetensors file: {error}") from error

    @property
    def names(self) -> Iterable[str]:
        """Names of all tensors."""
        return self._handles.keys()

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Read the tensor `name` and check its `shape`.

        Raises:
            ModelLoadError: The tensor is missing, cannot be read, or has another shape.
        """
        if name not in self._handles:
            files = sorted({path.name for path, _ in self._handles.values()})
            module = name.rpartition(".")[0]
            beside = [
                other.removeprefix(f"{module}.") for other in self.names if other.startswith(f"{module}.")
            ]
            raise ModelLoadError(
                f"tensor {name!r} is missing from {', '.join(files)}"
                + (
                    f"; there is {', '.join(sorted(beside)[:9])}: are these weights quantized?"
                    if beside
                    else ""
                )
            )
        path, handle = self._handles[name]
        try:
            if (dtype := handle.get_slice(name).get_dtype()) not in _FLOATS:
                raise ModelLoadError(
                    f"{path}: tensor {name!r} is of type {dtype}; quantized weights are not supported, "
                    f"allowed are {', '.join(_FLOATS)}"
                )
            tensor: np.ndarray[Any, Any] = handle.get_tensor(name)
        except (SafetensorError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{path}: tensor {name!r}: {error}") from error
        if tensor.shape != shape:
            raise ModelLoadError(
                f"{path}: tensor {name!r} has shape {tensor.shape}, config.json says {shape}"
            )
        return tensor
