"""Qwen2: biases of queries, keys and values; a sliding window in the upper layers."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, layer_windows, one_rope

__all__ = ["ARCHITECTURE", "DEFAULTS", "upper_windows"]

DEFAULTS = {"num_key_value_heads": 32, "max_position_embeddings": 32768, "sliding_window": 4096}


def upper_windows(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of a network with windows from layer `max_window_layers` on."""
    window = keys.integer("sliding_window", None)
    window = window if keys.flag("use_sliding_window") else None
    first = keys.integer("max_window_layers", 28, least=0)
    usual = [index >= first for index in range(sizes.num_layers)]
    return {"windows": layer_windows(keys, sizes, window, usual)}


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    return {**one_rope(keys, sizes), **upper_windows(keys, sizes), "qkv_bias": True}


ARCHITECTURE = Architecture("Qwen2ForCausalLM", "qwen2", _fields, DEFAULTS)
