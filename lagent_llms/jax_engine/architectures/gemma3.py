"""Gemma 3, the networks of text: rotary embeddings of their own in layers with a window."""

from __future__ import annotations

from typing import Any

from ..rope import Rope, rope_from_table
from ..settings import Settings
from .base import Architecture, Sizes
from .gemma2 import DEFAULTS, LAYOUT, shared_fields

__all__ = ["ARCHITECTURE"]

_FULL, _SLIDING = "full_attention", "sliding_attention"


def _ropes(keys: Settings, sizes: Sizes) -> tuple[Rope, Rope]:
    """Rotary embeddings of layers with and without a window.

    ``rope_parameters`` has a table for each (transformers 5); before, ``rope_scaling`` is that of the layers
    without a window.
    """
    tables, old = keys.table("rope_parameters"), keys.table("rope_scaling")
    for key, value in tables.items():
        if key not in (_FULL, _SLIDING):
            tables.fail(key, f"a table for {_FULL!r} and one for {_SLIDING!r}")
        if value and old.items():
            keys.fail("rope_scaling", "null beside rope_parameters")
    for key, value in old.items():
        if isinstance(value, dict):
            old.fail(key, "a number or a string")

    def rope(table: Settings, theta_key: str, theta: float) -> Rope:
        if table.number("partial_rotary_factor", 1.0) != 1:
            table.fail("partial_rotary_factor", "1")
        theta = table.number("rope_theta", keys.number(theta_key, theta))
        return rope_from_table(table, theta, sizes.head_dim, sizes.max_positions)

    return (
        rope(tables.table(_SLIDING), "rope_local_base_freq", 10_000.0),
        rope(old if old.items() else tables.table(_FULL), "rope_theta", 1_000_000.0),
    )


def _fields(keys: Settings, sizes: Sizes) -> dict[str, Any]:
    if keys.get("attn_logit_softcapping") is not None:  # programs disagree whether it has an effect
        keys.fail("attn_logit_softcapping", "null")
    shared = shared_fields(keys, sizes, keys.integer("sliding_window_pattern", 6))
    local, whole = _ropes(keys, sizes)
    return {
        **shared,
        "ropes": tuple(whole if window is None else local for window in shared["windows"]),
        "qk_norm": "head",
    }


ARCHITECTURE = Architecture(
    "Gemma3ForCausalLM",
    "gemma3_text",
    _fields,
    defaults={**DEFAULTS, "max_position_embeddings": 131_072},
    activation="gelu_tanh",
    layout=LAYOUT,
)
