"""Logits that biases, penalties of the answer's tokens and a least length change, inside the compiled graph.

Shapes: B rows, V vocabulary size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

__all__ = ["LogitAdjustments", "adjust_logits", "count_tokens"]


class LogitAdjustments(NamedTuple):
    """The adjustments of a batch; NumPy arrays on the host, JAX arrays in the graph.

    Attributes:
        bias: Added to the logits, (B, V) float32.
        counts: How often each token is in the answer so far, (B, V) int32.
        frequency: Frequency penalties, (B,) float32.
        presence: Presence penalties, (B,) float32.
        min_new_tokens: Number of tokens before which no end token is sampled, (B,) int32.
        ends: True for end tokens, (V,) bool.
    """

    bias: Any
    counts: Any
    frequency: Any
    presence: Any
    min_new_tokens: Any
    ends: Any


def adjust_logits(logits: Array, adjustments: LogitAdjustments, num_generated: Array) -> Array:
    """Apply the adjustments to `logits` (B, V) of rows that have `num_generated` (B,) tokens."""
    counts = adjustments.counts
    logits = logits + adjustments.bias - adjustments.frequency[:, None] * counts
    logits = logits - adjustments.presence[:, None] * (counts > 0)
    is_early = num_generated < adjustments.min_new_tokens
    return jnp.where(is_early[:, None] & adjustments.ends, -jnp.inf, logits)


def count_tokens(adjustments: LogitAdjustments, tokens: Array) -> LogitAdjustments:
    """The adjustments after one more token of each row, (B,)."""
    rows = jnp.arange(tokens.shape[0])
    return adjustments._replace(counts=adjustments.counts.at[rows, tokens].add(1))
