"""Small models with the interfaces of other libraries, and their expected answers."""

import types

import flax.linen as linen
import jax
import jax.numpy as jnp
from flax import nnx

VOCAB, WIDTH = 1024, 16


def mixed(hidden):
    """A causal mix of positions: the mean of the hidden states up to each."""
    return jnp.cumsum(hidden, axis=1) / jnp.arange(1, hidden.shape[1] + 1)[:, None]


def continued(logits, input_ids, mask, count, temperature, key):
    """Continue left-padded prompts by `count` tokens; return what transformers' Flax `generate` does."""
    rows, width = input_ids.shape
    lengths = mask.sum(axis=1)
    ids = jnp.pad(jax.vmap(jnp.roll)(input_ids, lengths - width), ((0, 0), (0, count)))
    for index in range(count):
        scores = jnp.take_along_axis(logits(ids), (lengths + index - 1)[:, None, None], axis=1)[:, 0]
        if temperature:
            scores /= temperature
            scores += jax.random.gumbel(jax.random.fold_in(key, index), scores.shape)
        ids = ids.at[jnp.arange(rows), lengths + index].set(scores.argmax(axis=-1))
    new = jax.vmap(lambda row, start: jax.lax.dynamic_slice(row, (start,), (count,)))(ids, lengths)
    return types.SimpleNamespace(sequences=jnp.concatenate([input_ids, new], axis=1))


class Called(nnx.Module):
    """An nnx module that returns logits when called."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCAB, WIDTH, rngs=rngs)
        self.inner = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, VOCAB, rngs=rngs)

    def __call__(self, input_ids):
        hidden = self.embed(input_ids)
        return types.SimpleNamespace(logits=self.head(jnp.tanh(self.inner(4 * mixed(hidden)) + hidden)))


class Generating(Called):
    """An nnx module with a `generate` that takes plain settings."""

    def generate(self, input_ids, attention_mask, max_new_tokens, do_sample, temperature=1.0, prng_key=None):
        temperature = temperature if do_sample else None
        return continued(
            lambda ids: self(ids).logits, input_ids, attention_mask, max_new_tokens, temperature, prng_key
        )


class _Network(linen.Module):
    @linen.compact
    def __call__(self, input_ids):
        hidden = linen.Embed(VOCAB, WIDTH, name="embed")(input_ids)
        inner = linen.Dense(WIDTH, name="inner")(4 * mixed(hidden))
        return linen.Dense(VOCAB, name="head")(jnp.tanh(inner + hidden))


class Pretrained:
    """A model like EasyDeL's and transformers' Flax models: parameters are passed to each call."""

    def __init__(self):
        self.module = _Network()

    def init_weights(self, key, shape):
        return self.module.init(key, jnp.ones(shape, jnp.int32))["params"]

    def __call__(self, input_ids, attention_mask=None, params=None):
        return types.SimpleNamespace(logits=self.module.apply(params, input_ids))

    def generate(self, input_ids, generation_config=None, prng_key=None, params=None, **kwargs):
        assert set(kwargs) == {"attention_mask"}
        config = generation_config
        return continued(
            lambda ids: self(ids, params=params).logits,
            input_ids,
            kwargs["attention_mask"],
            config.max_new_tokens,
            config.temperature if config.do_sample else None,
            jax.random.PRNGKey(0) if prng_key is None else prng_key,
        )


def greedy(logits, ids, count, ends):
    """The greedy continuation of `ids`, computed token by token, and its finish reason."""
    ids, new = list(ids), []
    while len(new) < count:
        token = int(logits(jnp.array([ids]))[0, -1].argmax())
        if token in ends:
            return new, "stop"
        ids.append(token)
        new.append(token)
    return new, "length"
