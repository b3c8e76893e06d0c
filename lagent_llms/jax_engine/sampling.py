"""Choose the next token of every row inside the compiled graph; each row has its own settings and randomness.

The filters apply in the order of transformers: repetition penalty, temperature, top_k, top_p, min_p. A token
is drawn by inverting the cumulative distribution at one uniform number, which depends on nothing but the
row's seed and the token's place in the answer, so a request never feels its batch mates.

The usual filters need only the most probable tokens, and `lax.top_k` of a bounded number is cheap where
sorting a vocabulary is not. Rows that need more (no filter, a large top_k, a top_p that those tokens do not
fill) go over the whole vocabulary, where top_k and top_p are thresholds found by bisection.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..params import GenerationParams

__all__ = ["TOP_LOGPROBS", "Logprobs", "SampleRows", "SamplingParams", "choose", "penalise", "raw_logprobs"]

#: Tokens that are looked at without going over the whole vocabulary.
_CANDIDATES = 64
#: Alternatives that are computed when log-probabilities are asked for.
TOP_LOGPROBS = 20
#: Halvings that find a float32 threshold exactly: one per bit.
_BISECTIONS = 32


@dataclass(frozen=True)
class SamplingParams:
    """How one request is decoded. The defaults ask for nothing: the model's own distribution.

    Attributes:
        max_new_tokens: Most tokens to generate.
        temperature: Divides the logits; 0 is greedy.
        top_k: Keep this many most probable tokens; None is no filter.
        top_p: Keep the most probable tokens that together reach this probability.
        min_p: Drop tokens less probable than this times the most probable one.
        repetition_penalty: Divides positive and multiplies negative logits of tokens already there.
        seed: Makes sampling repeatable; None draws a new one.
        ignore_eos: Go on after an end token.
        logprobs: None for none; else how many alternatives to report for each token.

    Raises:
        InvalidArgument: A value is of the wrong type or out of range.
    """

    max_new_tokens: int = 512
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        checked = GenerationParams(**asdict(self))
        for name in ("max_new_tokens", "top_k", "seed", "logprobs"):
            object.__setattr__(self, name, getattr(checked, name))


class SampleRows(NamedTuple):
    """Sampling settings of a batch, one entry a row: NumPy arrays on the way in, JAX arrays inside the graph.

    Attributes:
        temperature: (B,), 0 is greedy.
        top_k: (B,), the vocabulary's size where there is no filter.
        top_p: (B,)
        min_p: (B,)
        penalty: (B,)
        key: Seeds, (B, 2) uint32.
        seen: Tokens of prompt and answer so far, (B, vocabulary) bool; None when no row has a penalty.
    """

    temperature: Any
    top_k: Any
    top_p: Any
    min_p: Any
    penalty: Any
    key: Any
    seen: Any


class Logprobs(NamedTuple):
    """Log-probabilities under the model itself, before any filter.

    Attributes:
        chosen: (B,)
        top: The best, best first, (B, TOP_LOGPROBS).
        top_ids: Their tokens.
    """

    chosen: Any
    top: Any
    top_ids: Any


def raw_logprobs(scores: Array, tokens: Array) -> Logprobs:
    """Log-probabilities of the chosen `tokens` (B,) and of the best ones, from logits (B, V)."""
    every = jax.nn.log_softmax(scores)
    top, top_ids = lax.top_k(every, min(TOP_LOGPROBS, scores.shape[1]))
    return Logprobs(jnp.take_along_axis(every, tokens[:, None], axis=1)[:, 0], top, top_ids)


def choose(scores: Array, rows: SampleRows | None, place: Array) -> Array:
    """The next token of each row, (B,) int32.

    Args:
        scores: Logits, (B, V) float32.
        rows: Settings; None when every row is plainly greedy.
        place: How many tokens each row has generated before, (B,).
    """
    if rows is None:
        return jnp.argmax(scores, axis=-1)
    if rows.seen is not None:
        scores = penalise(scores, rows.seen, rows.penalty)
    greedy = jnp.argmax(scores, axis=-1)
    scaled = scores / jnp.where(rows.temperature > 0, rows.temperature, 1.0)[:, None]
    uniform = jax.vmap(
        lambda key, n: jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(key), n))
    )(rows.key, place)
    drawn = _draw(scaled, uniform, rows.top_k, rows.top_p, rows.min_p, rows.temperature > 0)
    return jnp.where(rows.temperature > 0, drawn, greedy)


def penalise(scores: Array, seen: Array, penalty: Array) -> Array:
    """Logits (B, V) after the repetition penalty (B,) on the tokens `seen` (B, V)."""
    factor = penalty[:, None]
    return jnp.where(seen, jnp.where(scores > 0, scores / factor, scores * factor), scores)


def _draw(scores: Array, uniform: Array, top_k: Array, top_p: Array, min_p: Array, active: Array) -> Array:
    """One token a row; rows that are not `active` get any."""
    vocab = scores.shape[1]
    width = min(_CANDIDATES, vocab)
    top, ids = lax.top_k(scores, width)
    total = jax.nn.logsumexp(scores, axis=-1)
    rank = jnp.arange(width)
    in_k = rank < top_k[:, None]
    limited = top_k <= width
    norm = jnp.where(limited, jax.nn.logsumexp(jnp.where(in_k, top, -jnp.inf), axis=-1), total)
    shares = jnp.where(in_k, jnp.exp(top - norm[:, None]), 0.0)
    before = jnp.cumsum(shares, axis=-1) - shares
    floor = min_p * shares[:, 0]
    kept = (before < top_p[:, None]) & (shares >= floor[:, None])
    enough = limited | (before[:, -1] + shares[:, -1] >= top_p) & (top_p < 1) & (top_k >= vocab)
    enough |= (shares[:, -1] < floor) & (top_k >= vocab)
    narrow = jnp.take_along_axis(ids, _invert(jnp.where(kept, shares, 0.0), uniform)[:, None], axis=1)[:, 0]

    def wide() -> Array:
        return jnp.where(enough, narrow, _draw_wide(scores, uniform, top_k, top_p, min_p))

    drawn: Array = lax.cond(jnp.all(enough | ~active), lambda: narrow, wide)
    return drawn


def _draw_wide(scores: Array, uniform: Array, top_k: Array, top_p: Array, min_p: Array) -> Array:
    """One token a row, over the whole vocabulary."""
    shares = jax.nn.softmax(scores, axis=-1)

    def filtered() -> Array:
        in_k = shares >= _threshold(shares, jnp.ones_like(shares), top_k.astype(jnp.float32))
        left = jnp.where(in_k, shares, 0.0)
        left = left / left.sum(axis=-1, keepdims=True)
        # The last token of the nucleus is the one that reaches top_p; top_p = 1 keeps all.
        limit = jnp.where(top_p[:, None] < 1, _threshold(left, left, top_p), 0.0)
        return jnp.where(left >= limit, left, 0.0)

    left = lax.cond(jnp.any((top_k < scores.shape[1]) | (top_p < 1)), filtered, lambda: shares)
    return _invert(jnp.where(left >= min_p[:, None] * left.max(axis=-1, keepdims=True), left, 0.0), uniform)


def _threshold(shares: Array, amounts: Array, goal: Array) -> Array:
    """The largest share x such that the `amounts` of all tokens with share >= x reach `goal`, (B, 1).

    Shares are not negative, so their bits as integers have the same order and are bisected exactly.
    """
    bits = lax.bitcast_convert_type(shares, jnp.int32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        reached = jnp.sum(jnp.where(bits >= middle[:, None], amounts, 0.0), axis=-1) >= goal
        return jnp.where(reached, middle, low), jnp.where(reached, high, middle)

    start = (jnp.zeros(shares.shape[0], jnp.int32), jnp.full(shares.shape[0], 0x3F800001, jnp.int32))
    low, _ = lax.fori_loop(0, _BISECTIONS, halve, start)
    return lax.bitcast_convert_type(low, jnp.float32)[:, None]


def _invert(weights: Array, uniform: Array) -> Array:
    """The index where the cumulative weights (B, n) first exceed the `uniform` (B,) part of their sum."""
    cumulative = jnp.cumsum(weights, axis=-1)
    index = jnp.sum(cumulative <= uniform[:, None] * cumulative[:, -1:], axis=-1)
    return jnp.minimum(index, weights.shape[1] - 1)
