"""Operations of the network's layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from .rope import Rope

__all__ = ["ACTIVATIONS", "apply_rotary", "cos_sin", "linear", "qk_norm", "rms_norm", "scale", "softcap"]

#: Up to this many rows, products with a small matrix run row by row: the CPU then does not pack the matrix.
_FEW_ROWS = 4
_SMALL_MATRIX_BYTES = 2**21

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
}


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """`x` (…, n) times `weight` (n, *out), plus `bias` (*out); (…, *out)."""
    rows, matrix = x.reshape(-1, x.shape[-1]), weight.reshape(weight.shape[0], -1)
    if 1 < rows.shape[0] <= _FEW_ROWS and matrix.nbytes <= _SMALL_MATRIX_BYTES:
        product = jnp.stack([row @ matrix for row in rows])
    else:
        product = rows @ matrix
    product = product.reshape(*x.shape[:-1], *weight.shape[1:])
    return product if bias is None else product + bias


def scale(x: Array, factor: float) -> Array:
    """`x` times `factor`, in the type of `x`."""
    return x if factor == 1 else x * factor


def softcap(x: Array, bound: float | None) -> Array:
    """`x` with a smooth bound, None for none."""
    return x if bound is None else bound * jnp.tanh(x / bound)


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """RMSNorm over the last axis, computed in float32; the product with `weight` in its type."""
    x32 = x.astype(jnp.float32)
    x32 = x32 * lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + eps)
    return (weight * x32.astype(weight.dtype)).astype(x.dtype)


def qk_norm(query_key: Array, weight: Array, eps: float) -> Array:
    """Normalize queries and keys (B, T, K, G + 1, D), per head or all heads at once."""
    if weight.ndim == 2:
        return rms_norm(query_key, weight, eps)

    def all_heads(x: Array, part: Array) -> Array:
        return rms_norm(x.reshape(*x.shape[:2], -1), part.reshape(-1), eps).reshape(x.shape)

    query = all_heads(query_key[..., :-1, :], weight[:, :-1])
    return jnp.concatenate([query, all_heads(query_key[..., -1:, :], weight[:, -1:])], axis=-2)


def cos_sin(rope: Rope, positions: Array, is_long: Array | None) -> tuple[Array, Array]:
    """Cosines and sines, each (B, T, 1, 1, pairs), at `positions` (B, T)."""
    frequencies: Any = np.asarray(rope.frequencies, np.float32)
    if rope.long_frequencies and is_long is not None:
        long = np.asarray(rope.long_frequencies, np.float32)
        frequencies = jnp.where(is_long[:, None, None], long, frequencies)
    angles = (positions[..., None] * frequencies)[:, :, None, None, :]
    return scale(jnp.cos(angles), rope.scale), scale(jnp.sin(angles), rope.scale)


def apply_rotary(x: Array, rotary: tuple[Array, Array]) -> Array:
    """Rotate the first dimensions of `x` (B, T, K, heads, D); i of n of them is paired with n / 2 + i."""
    cos, sin = (part.astype(x.dtype) for part in rotary)
    pairs = cos.shape[-1]
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    rotated = [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate([*rotated, rest] if rest.shape[-1] else rotated, axis=-1)
