"""Llama."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, attention_biases, no_windows, one_rope

__all__ = ["ARCHITECTURE", "fields"]


def fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of Llama and of networks that add to it."""
    return {
        **one_rope(keys, sizes),
        **no_windows(keys, sizes),
        **attention_biases(keys),
        "mlp_bias": keys.flag("mlp_bias"),
    }


ARCHITECTURE = Architecture("LlamaForCausalLM", "llama", fields)
