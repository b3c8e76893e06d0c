"""Qwen3-MoE: Qwen3 with experts."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, attention_biases, one_rope, one_window
from .experts import read_experts, sparse_layers

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    windows = one_window(keys, sizes) if keys.flag("use_sliding_window") else {}
    return {
        **one_rope(keys, sizes),
        **attention_biases(keys),
        **windows,
        "qk_norm": "head",
        "experts": read_experts(
            keys,
            size=keys.integer("moe_intermediate_size"),
            normalized=keys.flag("norm_topk_prob"),
            layers=sparse_layers(keys, sizes),
        ),
    }


ARCHITECTURE = Architecture(
    "Qwen3MoeForCausalLM",
    "qwen3_moe",
    _fields,
    defaults={
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    },
)
