"""OLMo 2: norms after each block, and of all queries and all keys at once."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Layout, Sizes, attention_biases, no_windows, one_rope

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    return {
        **one_rope(keys, sizes),
        **no_windows(keys, sizes),
        **attention_biases(keys),
        "qk_norm": "width",
    }


ARCHITECTURE = Architecture(
    "Olmo2ForCausalLM",
    "olmo2",
    _fields,
    defaults={"rms_norm_eps": 1e-5},
    layout=Layout(
        attention_norm=None,
        post_attention_norm="post_attention_layernorm",
        mlp_norm=None,
        post_mlp_norm="post_feedforward_layernorm",
        float32_norms=True,
    ),
)
