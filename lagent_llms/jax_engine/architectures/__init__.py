"""The supported architectures, one file each: fields of `ModelConfig`, and where the tensors are."""

from __future__ import annotations

from . import (
    gemma2,
    gemma3,
    granite,
    internlm2,
    llama,
    mistral,
    mixtral,
    olmo2,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
    smollm3,
)
from .base import Architecture, Layout, Sizes
from .experts import Experts

__all__ = ["ARCHITECTURES", "Architecture", "Experts", "Layout", "Sizes"]

_MODULES = (
    llama,
    mistral,
    mixtral,
    qwen2,
    qwen3,
    qwen2_moe,
    qwen3_moe,
    internlm2,
    gemma2,
    gemma3,
    phi3,
    granite,
    olmo2,
    smollm3,
)

#: Supported architectures by their name in config.json.
ARCHITECTURES: dict[str, Architecture] = {
    module.ARCHITECTURE.name: module.ARCHITECTURE for module in _MODULES
}
