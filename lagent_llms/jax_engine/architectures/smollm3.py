"""SmolLM3: Llama with layers that have no rotary embedding."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, attention_biases, layer_windows, one_rope

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    layers, period = sizes.num_layers, keys.integer("no_rope_layer_interval", 4)
    rotates = keys.integers("no_rope_layers")  # 1 for the layers that have one, against the key's name
    if rotates is None:
        rotates = tuple(int((index + 1) % period != 0) for index in range(layers))
    if len(rotates) < layers or max(rotates) > 1:
        keys.fail("no_rope_layers", f"a list of {layers} times 0 or 1")
    window = keys.integer("sliding_window", None) if keys.flag("use_sliding_window") else None
    whole = one_rope(keys, sizes)["ropes"]
    return {
        **attention_biases(keys),
        "mlp_bias": keys.flag("mlp_bias"),
        "ropes": tuple(rope if one else None for rope, one in zip(whole, rotates, strict=False)),
        "windows": layer_windows(keys, sizes, window, [not one for one in rotates[:layers]]),
    }


ARCHITECTURE = Architecture(
    "SmolLM3ForCausalLM",
    "smollm3",
    _fields,
    defaults={
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True,
    },
)
