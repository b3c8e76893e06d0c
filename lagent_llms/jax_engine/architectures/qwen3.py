"""Qwen3: queries and keys are normalized per head."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from .base import Architecture, Sizes, attention_biases, one_rope
from .qwen2 import DEFAULTS, upper_windows

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    return {
        **one_rope(keys, sizes),
        **upper_windows(keys, sizes),
        **attention_biases(keys),
        "qk_norm": "head",
    }


ARCHITECTURE = Architecture("Qwen3ForCausalLM", "qwen3", _fields, {**DEFAULTS, "head_dim": 128})
