"""Mixtures of experts as pure functions. Shapes: N tokens, H hidden size, E experts, I width of an expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .architectures import Experts

__all__ = ["ExpertWeights", "run_experts"]

#: Tokens that an expert takes at a time. Fewer pad less, more repeat the read of its weights less often.
_BLOCK = 32


class ExpertWeights(NamedTuple):
    """Weights of the experts of one layer.

    Attributes:
        router: (H, E)
        expert_gate_up: (E, H, 2, I)
        expert_down: (E, I, H)
        shared_gate: (H,): weight of the shared expert; None if there is none.
    """

    router: Array
    expert_gate_up: Array
    expert_down: Array
    shared_gate: Array | None


def run_experts(
    experts: Experts,
    weights: ExpertWeights,
    activation: Callable[[Array], Array],
    x: Array,
    shared: Array | None,
) -> Array:
    """Run each token through its experts; add the output of the shared expert.

    The pairs of a token and one of its experts are ordered by expert and computed in blocks of a single one:
    only experts that a token needs are read, and only one block's activations are held at a time.

    Args:
        experts: What the network has.
        weights: Weights of the layer's experts.
        activation: Activation of the gate.
        x: (B, T, H).
        shared: Output of the shared expert, (B, T, H); None if there is none.

    Returns:
        (B, T, H).
    """
    tokens = x.reshape(-1, x.shape[-1])
    probs = jax.nn.softmax((tokens @ weights.router).astype(jnp.float32), axis=-1)
    scores, chosen = lax.top_k(probs, experts.per_token)
    if experts.normalized:
        scores = scores / jnp.sum(scores, axis=-1, keepdims=True)
    scores, chosen = scores.reshape(-1), chosen.reshape(-1)
    pairs, size = chosen.shape[0], min(tokens.shape[0], _BLOCK)
    order = jnp.argsort(chosen, stable=True)
    counts = jnp.bincount(chosen, length=experts.per_layer)
    blocks = -(-counts // size)
    ends, block_ends = jnp.cumsum(counts), jnp.cumsum(blocks)
    starts, block_starts = ends - counts, block_ends - blocks

    def run_block(index: Array, output: Array) -> Array:
        expert = jnp.searchsorted(block_ends, index, side="right")
        first = starts[expert] + (index - block_starts[expert]) * size
        places = first + jnp.arange(size)
        pair = order[jnp.minimum(places, pairs - 1)]
        token = pair // experts.per_token
        gate, up = jnp.moveaxis(jnp.tensordot(tokens[token], weights.expert_gate_up[expert], 1), 1, 0)
        result = (activation(gate) * up) @ weights.expert_down[expert]
        score = jnp.where(places < ends[expert], scores[pair], 0).astype(result.dtype)
        return output.at[token].add(result * score[:, None])

    output: Array = lax.fori_loop(0, block_ends[-1], run_block, jnp.zeros_like(tokens)).reshape(x.shape)
    if shared is None or weights.shared_gate is None:
        return output
    weight: Array = jax.nn.sigmoid(x @ weights.shared_gate)
    return output + weight[..., None] * shared
