"""Mixtral: Mistral with experts in every layer."""

from __future__ import annotations

from typing import Any

from ..settings import Settings
from . import mistral
from .base import Architecture, Layout, Sizes
from .experts import read_experts

__all__ = ["ARCHITECTURE"]


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    layers = range(sizes.num_layers)
    experts = read_experts(keys, size=sizes.intermediate_size, normalized=True, layers=layers)
    return {**mistral.fields(keys, sizes), "experts": experts}


ARCHITECTURE = Architecture(
    "MixtralForCausalLM",
    "mixtral",
    _fields,
    defaults={
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1_000_000.0,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    layout=Layout(
        router="block_sparse_moe.gate",
        expert="block_sparse_moe.experts.{index}.",
        expert_gate_up=("w1", "w3"),
        expert_down="w2",
    ),
)
