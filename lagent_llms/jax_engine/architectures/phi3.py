"""Phi-3 and Phi-4: fused projections; LongRoPE, which may rotate a part of each head."""

from __future__ import annotations

from typing import Any

from ..rope import read_rope
from ..settings import Settings
from .base import Architecture, Layout, Sizes, one_window

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    # Files of the first versions have other names for LongRoPE.
    names = {"su": "longrope", "yarn": "longrope"}
    rope = read_rope(keys, sizes.head_dim, sizes.max_positions, partial=True, aliases=names)
    return {**one_window(keys, sizes), "ropes": (rope,) * sizes.num_layers}


ARCHITECTURE = Architecture(
    "Phi3ForCausalLM",
    "phi3",
    _fields,
    defaults={
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    },
    layout=Layout(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",)),
)
