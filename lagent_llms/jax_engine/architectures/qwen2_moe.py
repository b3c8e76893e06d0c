"""Qwen2-MoE: experts, and one more that every token passes with a weight of its own."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, layer_windows, one_rope
from .experts import read_experts, sparse_layers

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    window = keys.integer("sliding_window", None) if keys.flag("use_sliding_window") else None
    first_full = keys.integer("max_window_layers", 28, least=0)
    slides = [index < first_full and index % 2 == 0 for index in range(sizes.num_layers)]
    return {
        **one_rope(keys, sizes),
        "windows": layer_windows(keys, sizes, window, slides),
        "qkv_bias": keys.flag("qkv_bias", True),
        "experts": read_experts(
            keys,
            size=keys.integer("moe_intermediate_size"),
            normalized=keys.flag("norm_topk_prob"),
            layers=sparse_layers(keys, sizes),
            shared_size=keys.integer("shared_expert_intermediate_size"),
        ),
    }


ARCHITECTURE = Architecture(
    "Qwen2MoeForCausalLM",
    "qwen2_moe",
    _fields,
    defaults={
        "num_key_value_heads": 16,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
    },
)
