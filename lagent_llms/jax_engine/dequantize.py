"""Read the weights of quantized checkpoints as plain numbers, one tensor at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from .quantization import Quantization, Scheme
from .tensors import FLOATS, Tensors, checkpoint_files

__all__ = ["DequantizedTensors", "open_checkpoint"]

HostArray = np.ndarray[Any, Any]

#: Tensors for the quantization of activations and of the key-value cache, which this engine does not do.
_ACTIVATIONS = {
    "activation_scale",
    "k_scale",
    "k_zero_point",
    "kv_scale",
    "input_scale",
    "input_zero_point",
    "output_scale",
    "output_zero_point",
    "prob_output_scale",
    "q_scale",
    "q_zero_point",
    "v_scale",
    "v_zero_point",
}
_FLOAT8 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)


def open_checkpoint(path: Path, quantization: Quantization | None) -> Tensors | DequantizedTensors:
    """Open the safetensors files of a checkpoint directory.

    Raises:
        ModelLoadError: A file is missing or damaged, or a weight of plain numbers has a scale.
    """
    tensors = Tensors(checkpoint_files(path))
    return tensors if quantization is None else DequantizedTensors(tensors, quantization)


class DequantizedTensors:
    """The tensors of a quantized checkpoint under the names of the network without quantization.

    The file decides which weights are quantized, since it cannot be misread: their types are not those of
    plain numbers. The configuration says how to read them.

    Args:
        tensors: The tensors of the checkpoint.
        quantization: How they are quantized.

    Raises:
        ModelLoadError: A weight of plain numbers has a scale.
    """

    def __init__(self, tensors: Tensors, quantization: Quantization) -> None:
        self._tensors, self._quantization = tensors, quantization
        #: Module -> names of the tensors that make its quantized weight
        self._parts: defaultdict[str, set[str]] = defaultdict(set)
        names = set()
        for name in tensors.names:
            module, _, kind = name.rpartition(".")
            plain = kind == "weight" and tensors.type_of(name) in FLOATS
            if kind.startswith("weight") and not plain:
                self._parts[module].add(kind)
            elif kind not in _ACTIVATIONS:
                names.add(name)
        for module, parts in self._parts.items():
            if not parts & {"weight", "weight_packed"}:
                plain = f"{module}.weight" in names
                tensors.fail(
                    f"{module}.{min(parts)}",
                    "is beside a weight of plain numbers" if plain else f"is there without {module}.weight",
                )
        self._names = names | {f"{module}.weight" for module in self._parts}

    @property
    def names(self) -> Iterable[str]:
        """Names of the network's tensors, without scales and other parts of quantized weights."""
        return self._names

    def get(self, name: str, shape: tuple[int, ...]) -> HostArray:
        """Read the tensor `name` and check its `shape`; quantized weights become float32.

        Raises:
            ModelLoadError: The tensor or a part of it is missing, cannot be read, has another type or shape,
                or a scale is not finite.
        """
        module, _, kind = name.rpartition(".")
        if kind != "weight" or module not in self._parts:
            return self._tensors.get(name, shape)
        parts = {part: f"{module}.{part}" for part in sorted(self._parts[module])}
        stored_name = parts.get("weight_packed") or parts["weight"]
        scheme = self._quantization.scheme(module)
        if scheme is None:
            found = self._tensors.type_of(stored_name)
            self._tensors.fail(stored_name, f"is of type {found}, but quantization_config leaves it out")
        if len(shape) != 2:
            self._tensors.fail(stored_name, "is quantized; only matrices can be")
        weight = self._stored_weight(scheme, stored_name, parts, shape)
        scale_part = next((part for part in scheme.scales if part in parts), None)
        if scale_part is None:
            self._tensors.fail(stored_name, f"has no scale: {module}.{scheme.scales[0]} is missing")
        scale, block = self._scale(scheme, parts.pop(scale_part), shape)
        zero_point = None
        if "weight_zero_point" in parts:
            zero_point = self._zero_point(parts.pop("weight_zero_point"), scale.shape)
        elif not scheme.symmetric:
            self._tensors.fail(stored_name, f"has no zero point: {module}.weight_zero_point is missing")
        for part in parts.values():
            self._tensors.fail(part, f"has no meaning in the scheme that quantization_config gives {module}")
        _scale_blocks(weight, scale, zero_point, block)
        return weight

    def _stored_weight(
        self, scheme: Scheme, name: str, parts: dict[str, str], shape: tuple[int, ...]
    ) -> HostArray:
        """Read the stored numbers of a weight as float32; remove what was read from `parts`."""
        part, kind = scheme.stored
        found = self._tensors.type_of(name)
        if name != parts.get(part) or found != kind:
            self._tensors.fail(name, f"is of type {found}; quantization_config says {part} of type {kind}")
        del parts[part]
        stored = self._tensors.read(name)
        if part == "weight_packed":
            rows, columns = shape
            self._check_shape(name, stored, (rows, -(-columns // 4)))
            if (shape_name := parts.pop("weight_shape", None)) is not None:
                real = tuple(self._tensors.read(shape_name).ravel().tolist())
                if real != shape:
                    self._tensors.fail(shape_name, f"is {real}, config.json says {shape}")
            return _unpack(stored)[:, :columns].astype(np.float32)
        self._check_shape(name, stored, shape)
        return stored.astype(np.float32) if kind == "I8" else _FLOAT8[stored.view(np.uint8)]

    def _scale(self, scheme: Scheme, name: str, shape: tuple[int, ...]) -> tuple[HostArray, tuple[int, int]]:
        """Read a scale as a float32 matrix with an element a block; return it with the size of the blocks."""
        found = self._tensors.type_of(name)
        if found not in (*FLOATS, "F8_E8M0"):
            self._tensors.fail(name, f"is of type {found}; allowed are {', '.join(FLOATS)}, F8_E8M0")
        scale = self._tensors.read(name)
        rows, columns = shape
        grids = {}
        for lines, width in scheme.blocks:
            block = lines or rows, width or columns
            grids[-(-rows // block[0]), -(-columns // block[1])] = block
        fits = [grid for grid in grids if scale.shape == grid or (scale.ndim < 2 and (scale.size, 1) == grid)]
        if not fits:
            allowed = " or ".join(map(str, grids))
            self._tensors.fail(name, f"has shape {scale.shape}; quantization_config says {allowed}")
        scale = scale.astype(np.float32).reshape(fits[0])
        if not np.isfinite(scale).all():
            self._tensors.fail(name, "is not finite")
        return scale, grids[fits[0]]

    def _zero_point(self, name: str, grid: tuple[int, ...]) -> HostArray:
        """Read zero points as a float32 matrix of the shape of the scale."""
        stored = self._tensors.read(name)
        found = self._tensors.type_of(name)
        if found == "I32":  # packed along the rows
            self._check_shape(name, stored, (-(-grid[0] // 4), grid[1]))
            stored = _unpack(np.ascontiguousarray(stored.T))[:, : grid[0]].T
        elif found not in ("I8", *FLOATS, "F8_E4M3"):
            self._tensors.fail(name, f"is of type {found}; allowed are I8, I32 and floating-point numbers")
        if stored.size != grid[0] * grid[1]:
            self._tensors.fail(name, f"has shape {stored.shape}, its scale has {grid}")
        return stored.astype(np.float32).reshape(grid)

    def _check_shape(self, name: str, tensor: HostArray, shape: tuple[int, ...]) -> None:
        if tensor.shape != shape:
            self._tensors.fail(name, f"has shape {tensor.shape}, config.json says {shape}")


def _unpack(packed: HostArray) -> HostArray:
    """Unpack numbers of 8 bits, stored with an offset of 128: (rows, words) to (rows, 4 * words)."""
    little = packed.astype("<i4", copy=False)
    return (little.view(np.uint8) ^ 128).view(np.int8)


def _scale_blocks(
    weight: HostArray, scale: HostArray, zero_point: HostArray | None, block: tuple[int, int]
) -> None:
    """Change the stored numbers to (number - zero point) * scale in place, without a second matrix."""
    (rows, columns), (height, width) = weight.shape, block

    def column(grid: HostArray, index: int) -> HostArray:
        return np.repeat(grid[:, index], height)[:rows, None] if grid.shape[0] > 1 else grid[:, index, None]

    for index, start in enumerate(range(0, columns, width)):
        part = weight[:, start : start + width]
        if zero_point is not None:
            part -= column(zero_point, index)
        part *= column(scale, index)
