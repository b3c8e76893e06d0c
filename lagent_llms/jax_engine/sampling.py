"""Sample the next token of every row inside the compiled graph, with settings and a seed per row.

Biases and penalties apply first, then temperature, top_k, top_p and min_p, in the order of transformers.
Sampling inverts the cumulative distribution at one uniform number, which depends only on the row's seed and
the number of tokens generated before, so the other rows of a batch do not influence the result.

Usual settings need only the most probable tokens: `lax.top_k` with a fixed k is cheap, sorting the vocabulary
is not. Rows that need more (no filter, a large top_k, a top_p that those tokens do not reach) use the full
vocabulary, with the thresholds of top_k and top_p found by bisection.

Shapes: B rows, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from ..params import GenerationParams
from .logit_adjustments import adjust_logits

__all__ = [
    "TOP_LOGPROBS",
    "Logprobs",
    "SamplingParams",
    "SamplingTensors",
    "apply_repetition_penalty",
    "compute_logprobs",
    "sample_tokens",
]

#: Number of most probable tokens to try before using the full vocabulary.
_CANDIDATES = 64
#: Largest number of alternatives whose log-probabilities are computed.
TOP_LOGPROBS = 20
#: Bisection steps that find a float32 threshold exactly: one per bit.
_BISECTIONS = 32


@dataclass(frozen=True)
class SamplingParams:
    """Decoding parameters of one request. The defaults sample from the model's own distribution.

    Attributes:
        max_new_tokens: Largest number of tokens to generate.
        temperature: Divisor of the logits; 0 is greedy.
        top_k: Sample from this many most probable tokens; None is no filter.
        top_p: Sample from the most probable tokens that together reach this probability.
        min_p: Exclude tokens less probable than this fraction of the most probable one's probability.
        repetition_penalty: Divides positive and multiplies negative logits of tokens in prompt and answer
            (arXiv 1909.05858).
        seed: Seed that makes sampling reproducible; None uses a random one.
        ignore_eos: Continue after an end token.
        logprobs: Number of alternatives to report per token; None reports no log-probabilities.
        frequency_penalty: Subtracted from the logit of a token for each time it is in the answer.
        presence_penalty: Subtracted from the logit of a token that is in the answer.
        min_new_tokens: Number of tokens before which no end token is sampled.
        logit_bias: Token ids and what is added to their logits.
        response_format: A constraint on the text, in any form of `structured.formats.response_format`.

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
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    min_new_tokens: int | None = None
    logit_bias: Mapping[int, float] | None = None
    response_format: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        checked = GenerationParams(**asdict(self))
        for name in (
            *("max_new_tokens", "top_k", "seed", "logprobs"),
            *("min_new_tokens", "logit_bias", "response_format"),
        ):
            object.__setattr__(self, name, getattr(checked, name))

    @property
    def adjusts_logits(self) -> bool:
        """Whether a value asks for `LogitAdjustments`."""
        return bool(self.frequency_penalty or self.presence_penalty or self.min_new_tokens or self.logit_bias)


class SamplingTensors(NamedTuple):
    """Sampling parameters of a batch, one entry per row; NumPy arrays on the host, JAX arrays in the graph.

    Attributes:
        temperature: (B,) float32; 0 is greedy.
        top_k: (B,) int32; V is no filter.
        top_p: (B,) float32.
        min_p: (B,) float32.
        penalty: Repetition penalties, (B,) float32.
        key: Seeds, (B, 2) uint32.
        seen: True for tokens of prompt and answer so far, (B, V) bool; None if no row has a penalty of
            repetition.
        adjustments: `LogitAdjustments`; None if no row has any.
    """

    temperature: Any
    top_k: Any
    top_p: Any
    min_p: Any
    penalty: Any
    key: Any
    seen: Any
    adjustments: Any = None


class Logprobs(NamedTuple):
    """Log-probabilities of the model's own distribution, before any filter.

    Attributes:
        chosen: Log-probability of the sampled token, (B,) float32.
        top: Largest log-probabilities in descending order, (B, min(TOP_LOGPROBS, V)) float32.
        top_ids: Their token ids, same shape, int32.
    """

    chosen: Any
    top: Any
    top_ids: Any


def compute_logprobs(logits: Array, tokens: Array) -> Logprobs:
    """Log-probabilities of the sampled `tokens` (B,) and of the most probable ones, from `logits` (B, V)."""
    logprobs = jax.nn.log_softmax(logits)
    top, top_ids = lax.top_k(logprobs, min(TOP_LOGPROBS, logits.shape[1]))
    return Logprobs(jnp.take_along_axis(logprobs, tokens[:, None], axis=1)[:, 0], top, top_ids)


def sample_tokens(
    logits: Array, settings: SamplingTensors | None, num_generated: Array, mask: Array | None = None
) -> Array:
    """Sample the next token of each row.

    Args:
        logits: (B, V) float32.
        settings: Sampling parameters; None if every row is greedy without a penalty.
        num_generated: Number of tokens each row has generated before, (B,) int32.
        mask: Tokens that may be sampled, see `graphs.BatchInputs`; None for all.

    Returns:
        Token ids, (B,) int32.
    """
    if settings is None:
        return jnp.argmax(_masked(logits, mask), axis=-1)
    if settings.adjustments is not None:
        logits = adjust_logits(logits, settings.adjustments, num_generated)
    if settings.seen is not None:
        logits = apply_repetition_penalty(logits, settings.seen, settings.penalty)
    logits = _masked(logits, mask)
    greedy = jnp.argmax(logits, axis=-1)
    is_sampled = settings.temperature > 0
    scaled = logits / jnp.where(is_sampled, settings.temperature, 1.0)[:, None]
    uniform = jax.vmap(
        lambda key, n: jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(key), n))
    )(settings.key, num_generated)
    sampled = _sample_filtered(scaled, uniform, settings.top_k, settings.top_p, settings.min_p, is_sampled)
    return jnp.where(is_sampled, sampled, greedy)


def _masked(logits: Array, mask: Array | None) -> Array:
    """The `logits` (B, V), minus infinity where the bit of `mask` is 0."""
    if mask is None:
        return logits
    bits = (mask[:, :, None] >> jnp.arange(32)) & 1
    return jnp.where(bits.reshape(logits.shape[0], -1)[:, : logits.shape[1]] > 0, logits, -jnp.inf)


def apply_repetition_penalty(logits: Array, seen: Array, penalty: Array) -> Array:
    """Apply the repetition penalty (B,) to the `logits` (B, V) of the tokens in `seen` (B, V) bool."""
    factor = penalty[:, None]
    return jnp.where(seen, jnp.where(logits > 0, logits / factor, logits * factor), logits)


def _sample_filtered(
    logits: Array, uniform: Array, top_k: Array, top_p: Array, min_p: Array, active: Array
) -> Array:
    """Sample one token per row, (B,); the result is arbitrary where `active` (B,) is False."""
    vocab = logits.shape[1]
    width = min(_CANDIDATES, vocab)
    top, ids = lax.top_k(logits, width)
    log_total = jax.nn.logsumexp(logits, axis=-1)
    rank = jnp.arange(width)
    in_top_k = rank < top_k[:, None]
    is_limited = top_k <= width
    log_norm = jnp.where(is_limited, jax.nn.logsumexp(jnp.where(in_top_k, top, -jnp.inf), axis=-1), log_total)
    probs = jnp.where(in_top_k, jnp.exp(top - log_norm[:, None]), 0.0)
    preceding = jnp.cumsum(probs, axis=-1) - probs
    min_prob = min_p * probs[:, 0]
    kept = (preceding < top_p[:, None]) & (probs >= min_prob[:, None])
    # True where the candidates include every token that the filters keep.
    suffices = is_limited | (preceding[:, -1] + probs[:, -1] >= top_p) & (top_p < 1) & (top_k >= vocab)
    suffices |= (probs[:, -1] < min_prob) & (top_k >= vocab)
    index = _inverse_cdf(jnp.where(kept, probs, 0.0), uniform)
    from_candidates = jnp.take_along_axis(ids, index[:, None], axis=1)[:, 0]

    def from_full_vocab() -> Array:
        return jnp.where(suffices, from_candidates, _sample_full_vocab(logits, uniform, top_k, top_p, min_p))

    sampled: Array = lax.cond(jnp.all(suffices | ~active), lambda: from_candidates, from_full_vocab)
    return sampled


def _sample_full_vocab(logits: Array, uniform: Array, top_k: Array, top_p: Array, min_p: Array) -> Array:
    """Sample one token per row from the full vocabulary, (B,)."""
    probs = jax.nn.softmax(logits, axis=-1)

    def filtered() -> Array:
        in_top_k = probs >= _threshold(probs, jnp.ones_like(probs), top_k.astype(jnp.float32))
        kept = jnp.where(in_top_k, probs, 0.0)
        kept = kept / kept.sum(axis=-1, keepdims=True)
        # The last token of the nucleus is the one that reaches top_p; top_p = 1 keeps all.
        limit = jnp.where(top_p[:, None] < 1, _threshold(kept, kept, top_p), 0.0)
        return jnp.where(kept >= limit, kept, 0.0)

    kept = lax.cond(jnp.any((top_k < logits.shape[1]) | (top_p < 1)), filtered, lambda: probs)
    min_prob = min_p[:, None] * kept.max(axis=-1, keepdims=True)
    return _inverse_cdf(jnp.where(kept >= min_prob, kept, 0.0), uniform)


def _threshold(probs: Array, amounts: Array, goal: Array) -> Array:
    """Largest x such that the `amounts` (B, V) of all tokens with `probs` (B, V) >= x reach `goal` (B,).

    Probabilities are not negative, so their bits as integers have the same order and can be bisected exactly.

    Returns:
        (B, 1) float32.
    """
    bits = lax.bitcast_convert_type(probs, jnp.int32)

    def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        reached = jnp.sum(jnp.where(bits >= middle[:, None], amounts, 0.0), axis=-1) >= goal
        return jnp.where(reached, middle, low), jnp.where(reached, high, middle)

    start = (jnp.zeros(probs.shape[0], jnp.int32), jnp.full(probs.shape[0], 0x3F800001, jnp.int32))
    low, _ = lax.fori_loop(0, _BISECTIONS, halve, start)
    return lax.bitcast_convert_type(low, jnp.float32)[:, None]


def _inverse_cdf(weights: Array, uniform: Array) -> Array:
    """Index (B,) where the cumulative `weights` (B, n) first exceed their sum times `uniform` (B,)."""
    cumulative = jnp.cumsum(weights, axis=-1)
    index = jnp.sum(cumulative <= uniform[:, None] * cumulative[:, -1:], axis=-1)
    return jnp.minimum(index, weights.shape[1] - 1)
