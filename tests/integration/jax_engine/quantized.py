"""Write quantized checkpoints in the form of compressed-tensors and of FP8 checkpoints, with plain torch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Parts = dict[str, torch.Tensor]
Block = tuple[int | None, int | None]

TENSOR: Block = (None, None)
CHANNEL: Block = (1, None)


def _blocks(weight: torch.Tensor, block: Block) -> torch.Tensor:
    """Return (block rows, rows a block, block columns, columns a block), padded with the edge."""
    rows, columns = weight.shape
    height, width = block[0] or rows, block[1] or columns
    padding = (0, -columns % width, 0, -rows % height)
    padded = torch.nn.functional.pad(weight[None, None], padding, mode="replicate")[0, 0]
    return padded.view(padded.shape[0] // height, height, padded.shape[1] // width, width)


def _join(blocks: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    rows, columns = like.shape
    return blocks.reshape(blocks.shape[0] * blocks.shape[1], -1)[:rows, :columns].contiguous()


def int8(weight: torch.Tensor, block: Block = CHANNEL, *, symmetric: bool = True) -> Parts:
    """Quantize to integers of 8 bits, with a scale (and a zero point) a block."""
    blocks = _blocks(weight, block)
    low, high = blocks.amin((1, 3), keepdim=True), blocks.amax((1, 3), keepdim=True)
    if symmetric:
        scale = torch.maximum(-low, high) / 127
        zero = torch.zeros_like(scale)
    else:
        scale = (high - low) / 255
        zero = (-128 - low / scale).round().clamp(-128, 127)
    parts = {
        "weight": _join((blocks / scale + zero).round().clamp(-128, 127), weight).to(torch.int8),
        "weight_scale": scale[:, 0, :, 0].contiguous(),
    }
    if not symmetric:
        parts["weight_zero_point"] = zero[:, 0, :, 0].to(torch.int8)
    return _one_scale(parts) if block == TENSOR else parts


def float8(weight: torch.Tensor, block: Block = CHANNEL, *, scale_name: str = "weight_scale") -> Parts:
    """Quantize to floating-point numbers of 8 bits (e4m3), with a scale a block."""
    blocks = _blocks(weight, block)
    scale = blocks.abs().amax((1, 3), keepdim=True) / 448
    parts = {
        "weight": _join(blocks / scale, weight).to(torch.float8_e4m3fn),
        scale_name: scale[:, 0, :, 0].contiguous(),
    }
    return _one_scale(parts) if block == TENSOR else parts


def packed(weight: torch.Tensor, block: Block = CHANNEL, *, symmetric: bool = True) -> Parts:
    """Quantize to integers of 8 bits, four in an int32."""
    parts = int8(weight, block, symmetric=symmetric)
    parts["weight_packed"] = _pack(parts.pop("weight"))
    parts["weight_shape"] = torch.tensor(weight.shape)
    if not symmetric:
        parts["weight_zero_point"] = _pack(parts["weight_zero_point"].T).T.contiguous()
    return parts


def _pack(values: torch.Tensor) -> torch.Tensor:
    stored = (values.to(torch.int16) + 128).to(torch.uint8)
    padded = torch.nn.functional.pad(stored, (0, -stored.shape[1] % 4))
    return padded.clone(memory_format=torch.contiguous_format).view(torch.int32)


def _one_scale(parts: Parts) -> Parts:
    return {
        name: part if name.startswith("weight") and part.numel() > 1 else part.view(1)
        for name, part in parts.items()
    }


def write(
    source: Path,
    path: Path,
    config: dict[str, Any],
    quantize: Callable[[torch.Tensor], Parts],
    modules: str = r".*_proj",
) -> Path:
    """Copy the checkpoint `source` with the weights of `modules` (a regular expression) quantized."""
    shutil.copytree(source, path)
    weights: Parts = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        module = name.removesuffix(".weight")
        if module != name and re.fullmatch(modules, module):
            weights |= {f"{module}.{part}": value for part, value in quantize(tensor).items()}
        else:
            weights[name] = tensor
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return configure(path, config)


def split(path: Path, second: Callable[[str], bool]) -> None:
    """Split the weights of a checkpoint into two files; the second holds the names that `second` takes."""
    weights = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    table = {name: f"model-0000{1 + second(name)}-of-00002.safetensors" for name in weights}
    for file in set(table.values()):
        save_file({name: weights[name] for name in weights if table[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


def configure(path: Path, config: dict[str, Any]) -> Path:
    """Set the `quantization_config` of a checkpoint."""
    data = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(data | {"quantization_config": config}))
    return path


def group(form: str | None = None, targets: tuple[str, ...] = ("Linear",), **weights: Any) -> dict[str, Any]:
    """Return a config group of compressed-tensors."""
    defaults = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    return {"targets": list(targets), "weights": defaults | weights, "format": form}


def compressed(form: str, *groups: dict[str, Any], **config: Any) -> dict[str, Any]:
    """Return a quantization_config of compressed-tensors, by default with lm_head ignored."""
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {f"group_{index}": item for index, item in enumerate(groups)},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "sparsity_config": {},
        "transform_config": {},
    } | config


FP8: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
