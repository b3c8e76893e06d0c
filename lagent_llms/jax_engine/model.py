"""The network as pure functions: token ids and cached keys and values in, hidden states out.

`forward` serves both prefill and decode. It works on a *block*: a copy of the first L positions of the
batch's slots (the history), followed by C new positions that the call fills. Decode steps therefore do not
write to the KV cache; the new positions are written back once, after the last step.

Shapes: B rows, T new tokens, L history positions, C new positions, H hidden size, K key-value heads, G query
heads per key-value head, D head dimension.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from .config import ModelConfig
from .experts import ExpertWeights, run_experts
from .ops import ACTIVATIONS, apply_rotary, cos_sin, linear, qk_norm, rms_norm, scale, softcap

__all__ = [
    "KVCache",
    "LayerWeights",
    "ModelWeights",
    "compute_logits",
    "forward",
    "init_kv_cache",
    "read_kv_cache",
    "write_kv_cache",
]

#: For each layer keys (slots or B, K, D, positions) and values (slots or B, K, positions, D): the fastest
#: layouts for matrix products on a CPU.
KVCache: TypeAlias = tuple[tuple[Array, Array], ...]


class LayerWeights(NamedTuple):
    """Weights of one decoder layer; None for terms that the network does not have.

    Attributes:
        attention_norm: (H,)
        qkv: (H, K, G + 2, D): for each key-value head its G query heads, then key, then value.
        qkv_bias: (K, G + 2, D)
        qk_norm: The query heads of a group, then the key: (G + 1, D) per head, (K, G + 1, D) for all at once.
        out: (K * G * D, H)
        out_bias: (H,)
        post_attention_norm: (H,)
        mlp_norm: (H,)
        gate_up: (H, 2, intermediate size); with experts that of the shared one.
        gate_up_bias: (2, intermediate size)
        down: (intermediate size, H)
        down_bias: (H,)
        post_mlp_norm: (H,)
        experts: The experts.
    """

    attention_norm: Array | None
    qkv: Array
    qkv_bias: Array | None
    qk_norm: Array | None
    out: Array
    out_bias: Array | None
    post_attention_norm: Array | None
    mlp_norm: Array | None
    gate_up: Array | None
    gate_up_bias: Array | None
    down: Array | None
    down_bias: Array | None
    post_mlp_norm: Array | None
    experts: ExpertWeights | None


class ModelWeights(NamedTuple):
    """Weights of the network.

    Attributes:
        embed: (vocabulary, H)
        layers: One entry per layer; XLA would copy a stacked array at every step.
        norm: (H,)
        head: (H, vocabulary); None if it is tied to the embedding.
    """

    embed: Array
    layers: tuple[LayerWeights, ...]
    norm: Array
    head: Array | None


def init_kv_cache(config: ModelConfig, slots: int, length: int, dtype: jnp.dtype) -> KVCache:
    """Allocate a zeroed KV cache of `slots` slots with `length` positions each."""
    keys = (slots, config.num_kv_heads, config.head_dim, length)
    values = (slots, config.num_kv_heads, length, config.head_dim)
    layers = [(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.num_layers)]
    return tuple(layers)


def read_kv_cache(cache: KVCache, slots: Array, history_len: int, new_len: int) -> KVCache:
    """Copy the first `history_len` positions of `slots` (B,) to a block, padded by `new_len` positions."""

    def rows(array: Array, axis: int) -> Array:
        history = lax.slice_in_dim(array, 0, history_len, axis=axis)[slots]
        return jnp.pad(history, [(0, new_len if axis == index else 0) for index in range(4)])

    return tuple((rows(keys, 3), rows(values, 2)) for keys, values in cache)


def write_kv_cache(cache: KVCache, block: KVCache, slots: Array, starts: Array, history_len: int) -> KVCache:
    """Write the new positions of a block into the cache.

    Args:
        cache: The KV cache.
        block: A block of L + C positions.
        slots: Slot of each row, (B,).
        starts: Position in the slot of each row's first new position, (B,); ``starts[b] + C`` must not exceed
            the length of a slot.
        history_len: L.
    """

    def write_row(index: Array, cache: KVCache) -> KVCache:
        slot, start = slots[index], starts[index]

        def update(array: Array, new: Array, at: tuple[Array | int, ...]) -> Array:
            return lax.dynamic_update_slice(array, lax.dynamic_slice_in_dim(new, index, 1), (slot, *at))

        return tuple(
            (
                update(keys, new_keys[..., history_len:], (0, 0, start)),
                update(values, new_values[:, :, history_len:], (0, start, 0)),
            )
            for (keys, values), (new_keys, new_values) in zip(cache, block, strict=True)
        )

    written: KVCache = lax.fori_loop(0, slots.shape[0], write_row, cache)
    return written


def forward(
    config: ModelConfig,
    weights: ModelWeights,
    token_ids: Array,
    starts: Array,
    block: KVCache,
    history_len: int,
    offset: Array | int,
    is_long: Array | None = None,
) -> tuple[Array, KVCache]:
    """Run new tokens through all layers.

    Args:
        config: The network.
        weights: Weights of the network.
        token_ids: (B, T) int32; rows shorter than T are padded at the end.
        starts: Number of history positions in use by each row, (B,); the new tokens continue from there.
        block: Keys and values of L + C positions.
        history_len: L.
        offset: Number of the C new positions that are filled already.
        is_long: True for the sequences that are rotated with `Rope.long_frequencies`, (B,); None for none.

    Returns:
        Hidden states after the final norm, (B, T, H), and the block with the new keys and values.
    """
    step = offset + jnp.arange(token_ids.shape[1])
    positions = starts[:, None] + step
    rotaries = {
        rope: None if rope is None else cos_sin(rope, positions, is_long)
        for rope in dict.fromkeys(config.ropes)
    }
    columns = jnp.arange(block[0][0].shape[3])
    history_distances = jnp.where(columns < starts[:, None, None], positions[..., None] - columns, -1)
    distances = jnp.where(columns < history_len, history_distances, step[:, None] - (columns - history_len))
    hidden = scale(weights.embed[token_ids], config.embed_scale)
    new_block = []
    for layer, kv, rope, window in zip(weights.layers, block, config.ropes, config.windows, strict=True):
        rotary, column = rotaries[rope], history_len + offset
        hidden, kv = _layer(config, layer, hidden, rotary, distances, kv, column, window)
        new_block.append(kv)
    return rms_norm(hidden, weights.norm, config.norm_eps), tuple(new_block)


def compute_logits(config: ModelConfig, weights: ModelWeights, hidden: Array) -> Array:
    """Logits (B, vocabulary) float32 of hidden states (B, H)."""
    if weights.head is None:
        logits = lax.dot_general(hidden, weights.embed, (((1,), (1,)), ((), ())))
    else:
        logits = linear(hidden, weights.head)
    return softcap(scale(logits.astype(jnp.float32), 1 / config.logit_divisor), config.logit_softcap)


@partial(jax.jit, static_argnames=("config", "window"))
def _layer(
    config: ModelConfig,
    layer: LayerWeights,
    hidden: Array,
    rotary: tuple[Array, Array] | None,
    distances: Array,
    kv: tuple[Array, Array],
    column: Array | int,
    window: int | None,
) -> tuple[Array, tuple[Array, Array]]:
    """Run one decoder layer; jitted so that all layers share one trace.

    Args:
        config: The network.
        layer: Weights of the layer.
        hidden: (B, T, H).
        rotary: Cosines and sines of the rotary embedding, each (B, T, 1, 1, pairs); None for none.
        distances: Number of positions from each key back to each query's, (B, T, L + C); negative is masked.
        kv: Keys (B, K, D, L + C) and values (B, K, L + C, D).
        column: Column of `kv` for the first new position.
        window: Sliding window in tokens, None for full attention.

    Returns:
        Hidden states (B, T, H), and `kv` with the new keys and values.
    """
    qkv = linear(_norm(config, hidden, layer.attention_norm), layer.qkv, layer.qkv_bias)
    query_key, value = qkv[..., :-1, :], qkv[..., -1, :]
    if layer.qk_norm is not None:
        query_key = qk_norm(query_key, layer.qk_norm, config.norm_eps)
    if rotary is not None:
        query_key = apply_rotary(query_key, rotary)
    query, key = query_key[..., :-1, :], query_key[..., -1, :]
    kv = (
        lax.dynamic_update_slice_in_dim(kv[0], jnp.moveaxis(key, 1, 3), column, axis=3),
        lax.dynamic_update_slice_in_dim(kv[1], value.swapaxes(1, 2), column, axis=2),
    )
    mask = (distances >= 0) if window is None else (distances >= 0) & (distances < window)
    attended = linear(_attention(config, query, *kv, mask), layer.out, layer.out_bias)
    hidden = hidden + scale(_norm(config, attended, layer.post_attention_norm), config.residual_scale)
    x = _norm(config, hidden, layer.mlp_norm)
    output = _mlp(config, layer, x)
    if config.experts is not None and layer.experts is not None:
        output = run_experts(config.experts, layer.experts, ACTIVATIONS[config.activation], x, output)
    assert output is not None
    return hidden + scale(_norm(config, output, layer.post_mlp_norm), config.residual_scale), kv


def _mlp(config: ModelConfig, layer: LayerWeights, x: Array) -> Array | None:
    """Output of the MLP, or of the shared expert, for `x` (B, T, H); None if the layer has neither."""
    if layer.gate_up is None or layer.down is None:
        return None
    gate_up = linear(x, layer.gate_up, layer.gate_up_bias)
    inner = ACTIVATIONS[config.activation](gate_up[..., 0, :]) * gate_up[..., 1, :]
    return linear(inner, layer.down, layer.down_bias)


def _attention(config: ModelConfig, query: Array, keys: Array, values: Array, mask: Array) -> Array:
    """Grouped-query attention.

    Args:
        config: The network.
        query: (B, T, K, G, D).
        keys: (B, K, D, L + C).
        values: (B, K, L + C, D).
        mask: True for the keys each query attends to, (B, T, L + C).

    Returns:
        (B, T, K * G * D).
    """
    rows, length, kv_heads, group, dim = query.shape
    # One matrix per row and key-value head, with the operands in their memory layout.
    flat = query.transpose(0, 2, 1, 3, 4).reshape(rows, kv_heads, length * group, dim)
    scores = jnp.einsum("bknd,bkdl->bknl", flat, keys, preferred_element_type=jnp.float32)
    scores = softcap(scores * config.attention_scale, config.attention_softcap)
    scores = jnp.where(jnp.repeat(mask, group, axis=1)[:, None], scores, -jnp.inf)
    probs = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    output = jnp.einsum("bknl,bkld->bknd", probs, values).reshape(rows, kv_heads, length, group, dim)
    return output.transpose(0, 2, 1, 3, 4).reshape(rows, length, -1)


def _norm(config: ModelConfig, x: Array, weight: Array | None) -> Array:
    """RMSNorm over the last axis; `x` where the network has none."""
    return x if weight is None else rms_norm(x, weight, config.norm_eps)
