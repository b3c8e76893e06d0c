"""Read tensors by name from one or more safetensors files; errors name file and tensor."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelLoadError
from .settings import Settings, read_json

__all__ = ["FLOATS", "Tensors", "checkpoint_files"]

#: Types of plain numbers, as safetensors names them.
FLOATS = ("F64", "F32", "F16", "BF16")

_FLOATS_OF_8_BITS = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E8M0": ml_dtypes.float8_e8m0fnu}


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
        self._headers: dict[Path, dict[str, Any]] = {}
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

    def type_of(self, name: str) -> str | None:
        """Return the type of a tensor as safetensors names it ('BF16', 'I8'), None if there is none."""
        if name not in self._handles:
            return None
        return str(self._handles[name][1].get_slice(name).get_dtype())

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Read the tensor `name` of plain numbers and check its `shape`.

        Raises:
            ModelLoadError: The tensor is missing, cannot be read, or has another type or shape.
        """
        if (found := self.type_of(name)) is not None and found not in FLOATS:
            self.fail(
                name,
                f"is of type {found}; allowed are {', '.join(FLOATS)}, and what the quantization_config of "
                "config.json describes as quantized",
            )
        tensor = self.read(name)
        if tensor.shape != shape:
            self.fail(name, f"has shape {tensor.shape}, config.json says {shape}")
        return tensor

    def read(self, name: str) -> np.ndarray[Any, Any]:
        """Read the tensor `name` as it is stored.

        Raises:
            ModelLoadError: The tensor is missing or cannot be read.
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
            if (found := self.type_of(name)) in _FLOATS_OF_8_BITS:
                return self._read_bytes(name).view(_FLOATS_OF_8_BITS[found])
            tensor: np.ndarray[Any, Any] = handle.get_tensor(name)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise ModelLoadError(f"{path}: tensor {name!r}: {error}") from error
        return tensor

    def fail(self, name: str, text: str) -> NoReturn:
        """Raise an error about the tensor `name` that names its file.

        Raises:
            ModelLoadError: Always.
        """
        raise ModelLoadError(f"{self._handles[name][0]}: tensor {name!r} {text}")

    def _read_bytes(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Read a tensor of bytes; safetensors has no NumPy type for floats of 8 bits.

        The file was checked when it was opened: the header is valid and lies inside the file.
        """
        path, handle = self._handles[name]
        shape = tuple(map(int, handle.get_slice(name).get_shape()))
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if path not in self._headers:
                self._headers[path] = json.loads(file.read(length))
            file.seek(8 + length + self._headers[path][name]["data_offsets"][0])
            return np.fromfile(file, np.uint8, math.prod(shape)).reshape(shape)
