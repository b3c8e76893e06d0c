"""The two compiled graphs: prefill of prompt chunks, and several decode steps.

Shapes: B rows, T prompt tokens of a chunk, C decode steps, V vocabulary size.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from .config import ModelConfig
from .logit_adjustments import count_tokens
from .model import KVCache, ModelWeights, compute_logits, forward, read_kv_cache, write_kv_cache
from .sampling import Logprobs, compute_logprobs, sample_tokens

__all__ = ["BatchInputs", "decode", "prefill"]


class BatchInputs(NamedTuple):
    """Per-row inputs of a call; few arrays, because each one costs a transfer.

    Attributes:
        numbers: (B, 6) int32: slot, number of cached tokens, number of generated tokens, largest number of
            tokens to generate from now on, 1 if the row stops at an end token, 1 if it is a long sequence.
        sampling: `SamplingTensors`; None if every row is greedy without penalties and biases.
        mask: Tokens that may be sampled by `prefill`, (B, V / 32 rounded up) int32, a bit each; None for all.
    """

    numbers: Any
    sampling: Any
    mask: Any = None


@partial(jax.jit, static_argnames=("config", "history_len", "with_logprobs"), donate_argnames=("cache",))
def prefill(
    weights: ModelWeights,
    cache: KVCache,
    token_ids: Array,
    lengths: Array,
    inputs: BatchInputs,
    *,
    config: ModelConfig,
    history_len: int,
    with_logprobs: bool,
) -> tuple[KVCache, Array, Logprobs | None]:
    """Compute a chunk of each prompt and sample the token after it.

    Args:
        weights: Weights of the network.
        cache: The KV cache; donated.
        token_ids: (B, T) int32, padded at the end.
        lengths: Number of tokens of each row without padding, (B,) int32.
        inputs: Per-row inputs.
        config: The network.
        history_len: Number of cached positions to read.
        with_logprobs: Compute log-probabilities.

    Returns:
        The KV cache, the sampled tokens (B,) and their log-probabilities.
    """
    slots, starts, num_generated = inputs.numbers[:, 0], inputs.numbers[:, 1], inputs.numbers[:, 2]
    block = read_kv_cache(cache, slots, history_len, token_ids.shape[1])
    is_long = inputs.numbers[:, 5] > 0
    hidden, block = forward(config, weights, token_ids, starts, block, history_len, 0, is_long)
    cache = write_kv_cache(cache, block, slots, starts, history_len)
    last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]
    logits = compute_logits(config, weights, last)
    tokens = sample_tokens(logits, inputs.sampling, num_generated, inputs.mask)
    return cache, tokens, compute_logprobs(logits, tokens) if with_logprobs else None


@partial(
    jax.jit,
    static_argnames=("config", "eos", "history_len", "max_steps", "with_logprobs"),
    donate_argnames=("cache",),
)
def decode(
    weights: ModelWeights,
    cache: KVCache,
    last_tokens: Array,
    steps: Array,
    inputs: BatchInputs,
    *,
    config: ModelConfig,
    eos: tuple[int, ...],
    history_len: int,
    max_steps: int,
    with_logprobs: bool,
) -> tuple[KVCache, Array, Logprobs | None, Array]:
    """Run up to `steps` decode steps, fewer if every row ends before.

    Args:
        weights: Weights of the network.
        cache: The KV cache; donated.
        last_tokens: Last token of each row, (B,) int32.
        steps: Number of steps, at most `max_steps`; int32.
        inputs: Per-row inputs.
        config: The network.
        eos: End tokens.
        history_len: Number of cached positions to read.
        max_steps: C.
        with_logprobs: Compute log-probabilities.

    Returns:
        The KV cache, the sampled tokens (B, C) int32, their log-probabilities (each array with C as second
        dimension), and the number of steps run.
    """
    slots, starts, num_generated, limits, stops, long = inputs.numbers.T
    rows = last_tokens.shape[0]
    end_tokens = jnp.array(eos, jnp.int32)

    def is_unfinished(state: Any) -> Any:
        return (state[0] < steps) & ~jnp.all(state[2])

    def step(state: Any) -> Any:
        index, tokens, done, block, seen, adjustments, generated, logprobs = state
        hidden, block = forward(config, weights, tokens[:, None], starts, block, history_len, index, long > 0)
        logits = compute_logits(config, weights, hidden[:, 0])
        sampling = inputs.sampling and inputs.sampling._replace(seen=seen, adjustments=adjustments)
        tokens = sample_tokens(logits, sampling, num_generated + index).astype(jnp.int32)
        done |= (jnp.any(tokens[:, None] == end_tokens, axis=1) & (stops > 0)) | (index + 1 >= limits)
        if seen is not None:
            seen = seen.at[jnp.arange(rows), tokens].set(True)
        if adjustments is not None:
            adjustments = count_tokens(adjustments, tokens)
        if with_logprobs:
            logprobs = jax.tree.map(
                lambda all_steps, new: lax.dynamic_update_index_in_dim(all_steps, new, index, 1),
                logprobs,
                compute_logprobs(logits, tokens),
            )
        generated = lax.dynamic_update_index_in_dim(generated, tokens, index, 1)
        return index + 1, tokens, done, block, seen, adjustments, generated, logprobs

    logprobs = None
    if with_logprobs:
        shapes = jax.eval_shape(compute_logprobs, jnp.zeros((rows, config.vocab_size)), last_tokens)
        logprobs = jax.tree.map(
            lambda shape: jnp.zeros((rows, max_steps, *shape.shape[1:]), shape.dtype), shapes
        )
    state = (
        jnp.int32(0),
        last_tokens,
        jnp.zeros(rows, bool),
        read_kv_cache(cache, slots, history_len, max_steps),
        inputs.sampling.seen if inputs.sampling else None,
        inputs.sampling.adjustments if inputs.sampling else None,
        jnp.zeros((rows, max_steps), jnp.int32),
        logprobs,
    )
    count, _, _, block, _, _, generated, logprobs = lax.while_loop(is_unfinished, step, state)
    return write_kv_cache(cache, block, slots, starts, history_len), generated, logprobs, count
