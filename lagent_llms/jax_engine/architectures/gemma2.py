"""Gemma 2: soft caps, a scaled embedding, norms around each block, windows in every other layer."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Layout, Sizes, attention_biases, layer_windows, one_rope

__all__ = ["ARCHITECTURE", "DEFAULTS", "LAYOUT", "shared_fields"]

DEFAULTS = {
    "head_dim": 256,
    "num_key_value_heads": 4,
    "max_position_embeddings": 8192,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}

LAYOUT = Layout(
    post_attention_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    post_mlp_norm="post_feedforward_layernorm",
    norm_offset=1.0,
    float32_norms=True,
)


def shared_fields(keys: Settings, sizes: Sizes, period: int) -> dict[str, Any]:
    """Fields that Gemma 2 and 3 have in common; each `period`-th layer has no window.

    Raises:
        ModelLoadError: The network attends to later tokens as well.
    """
    if keys.flag("use_bidirectional_attention"):
        keys.fail("use_bidirectional_attention", "false")
    slides = [(index + 1) % period != 0 for index in range(sizes.num_layers)]
    return {
        **attention_biases(keys),
        "windows": layer_windows(keys, sizes, keys.integer("sliding_window"), slides),
        "embed_scale": sizes.hidden_size**0.5,
        "attention_scale": keys.number("query_pre_attn_scalar") ** -0.5,
        "logit_softcap": keys.number("final_logit_softcapping", None),
    }


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    return {
        **shared_fields(keys, sizes, period=2),
        **one_rope(keys, sizes),
        "attention_softcap": keys.number("attn_logit_softcapping", None),
    }


ARCHITECTURE = Architecture(
    "Gemma2ForCausalLM",
    "gemma2",
    _fields,
    defaults={**DEFAULTS, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    activation="gelu_tanh",
    layout=LAYOUT,
)
