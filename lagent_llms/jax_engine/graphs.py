"""The two graphs that are compiled: a prefill of prompt pieces, and a chunk of decode steps."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .config import ModelConfig
from .model import Cache, ModelWeights, forward, logits, read_cache, write_cache
from .sampling import Logprobs, choose, raw_logprobs

__all__ = ["Inputs", "decode", "prefill"]


class Inputs(NamedTuple):
    """Per-row numbers of a call, (B, …): few arrays, because each one costs a transfer.

    Attributes:
        numbers: (B, 5) int32: slot, start, place, limit, stops at an end token.
        sample: Sampling settings, None when every row is greedy.
    """

    numbers: Any
    sample: Any


@partial(jax.jit, static_argnames=("config", "span", "wants"), donate_argnames=("cache",))
def prefill(
    weights: ModelWeights,
    cache: Cache,
    ids: Array,
    sizes: Array,
    inputs: Inputs,
    *,
    config: ModelConfig,
    span: int,
    wants: bool,
) -> tuple[Cache, Array, Logprobs | None]:
    """Compute prompt pieces (B, T) of which ``sizes`` (B,) tokens are real, and choose what follows."""
    slots, starts, places = inputs.numbers[:, 0], inputs.numbers[:, 1], inputs.numbers[:, 2]
    hidden, block = forward(
        config, weights, ids, starts, read_cache(cache, slots, span, ids.shape[1]), span, 0
    )
    cache = write_cache(cache, block, slots, starts, span)
    last = jnp.take_along_axis(hidden, sizes[:, None, None] - 1, axis=1)[:, 0]
    scores = logits(weights, last)
    tokens = choose(scores, inputs.sample, places)
    return cache, tokens, raw_logprobs(scores, tokens) if wants else None


@partial(jax.jit, static_argnames=("config", "eos", "span", "chunk", "wants"), donate_argnames=("cache",))
def decode(
    weights: ModelWeights,
    cache: Cache,
    last: Array,
    steps: Array,
    inputs: Inputs,
    *,
    config: ModelConfig,
    eos: tuple[int, ...],
    span: int,
    chunk: int,
    wants: bool,
) -> tuple[Cache, Array, Logprobs | None, Array]:
    """Up to `steps` steps from the tokens `last` (B,), fewer when every row has ended; says how many."""
    slots, starts, places, limits, stops = inputs.numbers.T
    rows = last.shape[0]
    ends = jnp.array(eos, jnp.int32)

    def go_on(state: Any) -> Any:
        return (state[0] < steps) & ~jnp.all(state[2])

    def step(state: Any) -> Any:
        index, tokens, done, block, seen, chosen, logprobs = state
        hidden, block = forward(config, weights, tokens[:, None], starts, block, span, index)
        scores = logits(weights, hidden[:, 0])
        sample = inputs.sample and inputs.sample._replace(seen=seen)
        tokens = choose(scores, sample, places + index).astype(jnp.int32)
        done |= (jnp.any(tokens[:, None] == ends, axis=1) & (stops > 0)) | (index + 1 >= limits)
        if seen is not None:
            seen = seen.at[jnp.arange(rows), tokens].set(True)
        if wants:
            logprobs = jax.tree.map(
                lambda all_steps, new: lax.dynamic_update_index_in_dim(all_steps, new, index, 1),
                logprobs,
                raw_logprobs(scores, tokens),
            )
        chosen = lax.dynamic_update_index_in_dim(chosen, tokens, index, 1)
        return index + 1, tokens, done, block, seen, chosen, logprobs

    logprobs = None
    if wants:
        shapes = jax.eval_shape(raw_logprobs, jnp.zeros((rows, config.vocab_size)), last)
        logprobs = jax.tree.map(lambda one: jnp.zeros((rows, chunk, *one.shape[1:]), one.dtype), shapes)
    state = (
        jnp.int32(0),
        last,
        jnp.zeros(rows, bool),
        read_cache(cache, slots, span, chunk),
        inputs.sample.seen if inputs.sample else None,
        jnp.zeros((rows, chunk), jnp.int32),
        logprobs,
    )
    count, _, _, block, _, chosen, logprobs = lax.while_loop(go_on, step, state)
    return write_cache(cache, block, slots, starts, span), chosen, logprobs, count
