"""The network as pure functions: new tokens and a KV history in, hidden states and new keys and values out.

One `forward` serves prompts and decoding. It works on a *block*: a copy of the first L places of the batch's
slots, the history, followed by C places that the call itself fills. So a chunk of decode steps never writes
to the big cache, and the cache is written once, at the end.

Shapes: B rows, T new tokens, L places of history, C places for new tokens, H hidden size, K key-value heads,
G query heads per key-value head, D width of a head.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array, lax

from .config import ModelConfig

__all__ = [
    "Cache",
    "LayerWeights",
    "ModelWeights",
    "empty_cache",
    "forward",
    "logits",
    "read_cache",
    "write_cache",
]

#: For each layer keys (rows or slots, K, D, places) and values (rows or slots, K, places, D): the layouts in
#: which a CPU multiplies them fastest.
Cache: TypeAlias = tuple[tuple[Array, Array], ...]

#: Up to this many rows a product with a small matrix is done row by row: a CPU need not pack the matrix then.
_FEW_ROWS = 4
_SMALL_MATRIX_BYTES = 2**21


class LayerWeights(NamedTuple):
    """Weights of one decoder layer; None where the network has no such term.

    Attributes:
        attention_norm: (H,)
        qkv: (H, K, G + 2, D): for each key-value head its query heads, then key, then value.
        qkv_bias: (K, G + 2, D)
        qk_norm: (G + 1, D), for the query heads and the key of a group.
        out: (K * G * D, H)
        out_bias: (H,)
        mlp_norm: (H,)
        gate_up: (H, 2, intermediate size)
        gate_up_bias: (2, intermediate size)
        down: (intermediate size, H)
        down_bias: (H,)
    """

    attention_norm: Array
    qkv: Array
    qkv_bias: Array | None
    qk_norm: Array | None
    out: Array
    out_bias: Array | None
    mlp_norm: Array
    gate_up: Array
    gate_up_bias: Array | None
    down: Array
    down_bias: Array | None


class ModelWeights(NamedTuple):
    """Weights of the network.

    Attributes:
        embed: (vocabulary, H)
        layers: One entry a layer, as arrays of their own: a stacked array would be copied at every step.
        norm: (H,)
        head: (H, vocabulary); None when the embedding is used (tied).
    """

    embed: Array
    layers: tuple[LayerWeights, ...]
    norm: Array
    head: Array | None


def empty_cache(config: ModelConfig, rows: int, places: int, dtype: jnp.dtype) -> Cache:
    """Zeroed keys and values for `rows` rows of `places` tokens."""
    keys = (rows, config.num_kv_heads, config.head_dim, places)
    values = (rows, config.num_kv_heads, places, config.head_dim)
    layers = [(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.num_layers)]
    return tuple(layers)


def read_cache(cache: Cache, slots: Array, span: int, room: int) -> Cache:
    """A block of the first `span` places of the given slots and `room` empty ones."""

    def rows(array: Array, axis: int) -> Array:
        taken = lax.slice_in_dim(array, 0, span, axis=axis)[slots]
        return jnp.pad(taken, [(0, room if axis == index else 0) for index in range(4)])

    return tuple((rows(keys, 3), rows(values, 2)) for keys, values in cache)


def write_cache(cache: Cache, block: Cache, slots: Array, starts: Array, span: int) -> Cache:
    """Put what a block holds after its history at place ``starts[b]`` of slot ``slots[b]``; it has to fit."""

    def row(index: Array, cache: Cache) -> Cache:
        slot, start = slots[index], starts[index]

        def put(whole: Array, part: Array, at: tuple[Array | int, ...]) -> Array:
            return lax.dynamic_update_slice(whole, lax.dynamic_slice_in_dim(part, index, 1), (slot, *at))

        return tuple(
            (
                put(keys, new_keys[..., span:], (0, 0, start)),
                put(values, new_values[:, :, span:], (0, start, 0)),
            )
            for (keys, values), (new_keys, new_values) in zip(cache, block, strict=True)
        )

    written: Cache = lax.fori_loop(0, slots.shape[0], row, cache)
    return written


def forward(
    config: ModelConfig,
    weights: ModelWeights,
    ids: Array,
    starts: Array,
    block: Cache,
    span: int,
    offset: Array | int,
) -> tuple[Array, Cache]:
    """Run new tokens through all layers.

    Args:
        config: The network.
        weights: Its weights.
        ids: Token ids, (B, T). A row shorter than T is padded at its end.
        starts: How many places of the history each row uses, (B,); its new tokens continue from there.
        block: Keys and values of L + C places.
        span: L.
        offset: How many of the C places are filled already.

    Returns:
        Hidden states after the last norm, (B, T, H), and the block with the new keys and values.
    """
    step = offset + jnp.arange(ids.shape[1])
    positions = starts[:, None] + step
    angles = positions[..., None] * config.rope.inverse_frequencies(config.head_dim)
    turn = (jnp.cos(angles)[:, :, None, None, :], jnp.sin(angles)[:, :, None, None, :])
    places = jnp.arange(block[0][0].shape[3])
    old = jnp.where(places < starts[:, None, None], positions[..., None] - places, -1)
    ages = jnp.where(places < span, old, step[:, None] - (places - span))
    hidden = weights.embed[ids]
    filled = []
    for layer, pair, window in zip(weights.layers, block, config.windows, strict=True):
        hidden, pair = _layer(config, layer, hidden, turn, ages, pair, span + offset, window)
        filled.append(pair)
    return _rms_norm(hidden, weights.norm, config.norm_eps), tuple(filled)


def logits(weights: ModelWeights, hidden: Array) -> Array:
    """Scores of every token of the vocabulary, float32, for hidden states (B, H)."""
    if weights.head is None:
        return lax.dot_general(hidden, weights.embed, (((1,), (1,)), ((), ()))).astype(jnp.float32)
    return _linear(hidden, weights.head).astype(jnp.float32)


@partial(jax.jit, static_argnames=("config", "window"))
def _layer(
    config: ModelConfig,
    layer: LayerWeights,
    hidden: Array,
    turn: tuple[Array, Array],
    ages: Array,
    pair: tuple[Array, Array],
    place: Array | int,
    window: int | None,
) -> tuple[Array, tuple[Array, Array]]:
    """One decoder layer; jitted so that all layers share one trace.

    `ages` (B, T, L + C) says how many positions back each key lies, negative where it may not be seen; `turn`
    holds cosines and sines of the rotary embedding, each (B, T, 1, 1, D / 2); the new keys and values go to
    `place` of the `pair`.
    """
    mixed = _linear(_rms_norm(hidden, layer.attention_norm, config.norm_eps), layer.qkv, layer.qkv_bias)
    rotating, value = mixed[..., :-1, :], mixed[..., -1, :]
    if layer.qk_norm is not None:
        rotating = _rms_norm(rotating, layer.qk_norm, config.norm_eps)
    rotating = _rotate(rotating, turn)
    query, key = rotating[..., :-1, :], rotating[..., -1, :]
    pair = (
        lax.dynamic_update_slice_in_dim(pair[0], jnp.moveaxis(key, 1, 3), place, axis=3),
        lax.dynamic_update_slice_in_dim(pair[1], value.swapaxes(1, 2), place, axis=2),
    )
    seen = (ages >= 0) if window is None else (ages >= 0) & (ages < window)
    hidden = hidden + _linear(_attend(query, *pair, seen), layer.out, layer.out_bias)
    both = _linear(_rms_norm(hidden, layer.mlp_norm, config.norm_eps), layer.gate_up, layer.gate_up_bias)
    inner = jax.nn.silu(both[..., 0, :]) * both[..., 1, :]
    return hidden + _linear(inner, layer.down, layer.down_bias), pair


def _attend(query: Array, keys: Array, values: Array, seen: Array) -> Array:
    """Attention of `query` (B, T, K, G, D) to the keys that are `seen` (B, T, L + C); (B, T, K * G * D)."""
    rows, length, kv_heads, group, dim = query.shape
    # One matrix per row and key-value head, with the operands as they lie in memory.
    flat = query.transpose(0, 2, 1, 3, 4).reshape(rows, kv_heads, length * group, dim)
    scores = jnp.einsum("bknd,bkdl->bknl", flat, keys, preferred_element_type=jnp.float32) * dim**-0.5
    scores = jnp.where(jnp.repeat(seen, group, axis=1)[:, None], scores, -jnp.inf)
    shares = jax.nn.softmax(scores, axis=-1).astype(query.dtype)
    mixed = jnp.einsum("bknl,bkld->bknd", shares, values).reshape(rows, kv_heads, length, group, dim)
    return mixed.transpose(0, 2, 1, 3, 4).reshape(rows, length, -1)


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`x` (…, n) times `weight` (n, …), plus `bias`."""
    rows, matrix = x.reshape(-1, x.shape[-1]), weight.reshape(weight.shape[0], -1)
    if 1 < rows.shape[0] <= _FEW_ROWS and matrix.nbytes <= _SMALL_MATRIX_BYTES:
        product = jnp.stack([row @ matrix for row in rows])
    else:
        product = rows @ matrix
    product = product.reshape(*x.shape[:-1], *weight.shape[1:])
    return product if bias is None else product + bias


def _rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """`x` scaled to a root mean square of 1 over its last axis (in float32), times `weight`."""
    wide = x.astype(jnp.float32)
    wide = wide * lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return weight * wide.astype(x.dtype)


def _rotate(x: Array, turn: tuple[Array, Array]) -> Array:
    """Rotary embedding of (B, T, K, heads, D), which pairs dimension i with D / 2 + i."""
    cos, sin = (part.astype(x.dtype) for part in turn)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
