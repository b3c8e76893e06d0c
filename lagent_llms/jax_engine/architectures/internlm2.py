"""InternLM2: names of its own; queries, keys and values in one tensor, by key-value head."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Layout, Sizes, no_windows, one_rope

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    bias = keys.flag("bias")
    return {
        **one_rope(keys, sizes),
        **no_windows(keys, sizes),
        "qkv_bias": bias,
        "out_bias": bias,
    }


ARCHITECTURE = Architecture(
    "InternLM2ForCausalLM",
    "internlm2",
    _fields,
    defaults={"bias": True},
    layout=Layout(
        embed="model.tok_embeddings",
        head="output",
        attention_norm="attention_norm",
        qkv=("attention.wqkv",),
        qkv_by_head=True,
        out="attention.wo",
        mlp_norm="ffn_norm",
        gate_up=("feed_forward.w1", "feed_forward.w3"),
        down="feed_forward.w2",
    ),
)
