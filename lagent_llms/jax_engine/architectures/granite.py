"""Granite 3: Llama with four multipliers."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from . import llama
from .base import Architecture, Sizes

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    return {
        **llama.fields(keys, sizes),
        "embed_scale": keys.number("embedding_multiplier", 1.0),
        "attention_scale": keys.number("attention_multiplier", 1.0),
        "residual_scale": keys.number("residual_multiplier", 1.0),
        "logit_divisor": keys.number("logits_scaling", 1.0),
    }


ARCHITECTURE = Architecture("GraniteForCausalLM", "granite", _fields)
