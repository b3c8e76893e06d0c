"""Mistral: a sliding window in every layer."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, one_rope, one_window

__all__ = ["ARCHITECTURE", "fields"]


def fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    """Fields of Mistral and of networks that add to it."""
    return {**one_rope(keys, sizes), **one_window(keys, sizes)}


ARCHITECTURE = Architecture(
    "MistralForCausalLM",
    "mistral",
    fields,
    defaults={"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096},
)
