"""Samples have the exact distribution and depend only on their own request."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from lagent_llms.jax_engine.sampling import SamplingTensors, sample_tokens

from .conftest import prompt_of, run, start

VOCAB = 300
DRAWS = 40_000
rng = np.random.default_rng(7)
PEAKED = rng.normal(size=VOCAB) * 3
FLAT = rng.normal(size=VOCAB) * 0.4
SEEN = rng.random(VOCAB) < 0.3


def reference(scores, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0, penalty=1.0):
    """Return the exact distribution, in float64 and by sorting, with transformers' order of filters."""
    scores = scores.astype(np.float64)
    if penalty != 1.0:
        scores = np.where(SEEN, np.where(scores > 0, scores / penalty, scores * penalty), scores)
    scores = scores / temperature
    shares = np.exp(scores - scores.max())
    order = np.argsort(-shares, kind="stable")
    if top_k:
        shares[order[top_k:]] = 0
    shares /= shares.sum()
    if top_p < 1:
        before = np.cumsum(shares[order]) - shares[order]
        shares[order[before >= top_p]] = 0
    shares[shares < min_p * shares.max()] = 0
    return shares / shares.sum()


def draw(scores, count=DRAWS, seed=0, temperature=1.0, top_k=None, top_p=1.0, min_p=0.0, penalty=1.0):
    """Draw `count` tokens with the engine's sampler, as rows of one batch at positions 0, 1, 2 …"""

    def column(value, dtype=np.float32):
        return jnp.full(count, value, dtype)

    rows = SamplingTensors(
        temperature=column(temperature),
        top_k=column(top_k or VOCAB, np.int32),
        top_p=column(top_p),
        min_p=column(min_p),
        penalty=column(penalty),
        key=jnp.tile(jnp.array([[0, seed]], jnp.uint32), (count, 1)),
        seen=None if penalty == 1.0 else jnp.tile(SEEN, (count, 1)),
    )
    batch = jnp.tile(jnp.asarray(scores, jnp.float32), (count, 1))
    return np.asarray(jax.jit(sample_tokens)(batch, rows, jnp.arange(count)))


SETTINGS = [
    {},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 64},
    {"top_k": 100},
    {"top_p": 0.3},
    {"top_p": 0.9},
    {"top_p": 0.999},
    {"min_p": 0.05},
    {"min_p": 0.9},
    {"penalty": 1.5},
    {"penalty": 0.7},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.8, "min_p": 0.02, "penalty": 1.1},
    {"temperature": 2.0, "top_k": 150, "top_p": 0.7, "min_p": 0.1},
]


@pytest.mark.parametrize("scores", [PEAKED, FLAT], ids=["peaked", "flat"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_distribution(scores, settings):
    expected = reference(scores, **settings)
    counts = np.bincount(draw(scores, **settings), minlength=VOCAB)
    assert counts[expected == 0].sum() == 0, "a token that is filtered out was drawn"
    # Merge rare tokens, because the chi-square test needs enough expected counts per cell.
    rare = expected * DRAWS < 10
    observed = np.append(counts[~rare], counts[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum()) * DRAWS
    observed, wanted = (values[wanted > 0] for values in (observed, wanted))
    if len(wanted) > 1:
        assert chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


def test_the_chi_square_test_detects_a_wrong_temperature():
    counts = np.bincount(draw(FLAT, temperature=1.5), minlength=VOCAB)
    assert chisquare(counts, reference(FLAT) * DRAWS).pvalue < 1e-6


def test_rows_of_a_batch_have_independent_settings():
    """A greedy, a narrow and an unfiltered row give the same tokens in one batch as alone."""

    def rows(*which):
        table = [(0.0, VOCAB, 1.0), (1.0, 3, 1.0), (1.5, VOCAB, 1.0), (1.0, VOCAB, 0.95), (1.0, 100, 0.9)]
        temperature, top_k, top_p = zip(*(table[index] for index in which), strict=True)
        zero = jnp.zeros(len(which))
        key = jnp.array([[index, 5] for index in which], jnp.uint32)
        return SamplingTensors(
            jnp.array(temperature), jnp.array(top_k), jnp.array(top_p), zero, zero + 1, key, None
        )

    scores = jnp.asarray(np.stack([FLAT, PEAKED, FLAT, FLAT, FLAT]), jnp.float32)
    pick = jax.jit(sample_tokens)
    for position in range(20):
        together = pick(scores, rows(0, 1, 2, 3, 4), jnp.full(5, position))
        alone = [pick(scores[index : index + 1], rows(index), jnp.full(1, position))[0] for index in range(5)]
        assert together.tolist() == [int(token) for token in alone]
    assert together[0] == FLAT.argmax()


SAMPLED = {"temperature": 1.0, "top_p": 0.95, "ignore_eos": True, "max_new_tokens": 24}


def test_a_seed_repeats_its_answer_in_any_batch(engine):
    prompt = prompt_of(10)
    alone = run(engine, prompt, seed=5, **SAMPLED).ids
    mates = [start(engine, prompt_of(8 + salt, salt), seed=salt, **SAMPLED) for salt in range(2)]
    mates.append(start(engine, prompt_of(20), max_new_tokens=9))
    assert run(engine, prompt, seed=5, **SAMPLED).ids == alone
    for mate in mates:
        mate.wait()
    assert run(engine, prompt, seed=6, **SAMPLED).ids != alone
    assert run(engine, prompt, seed=5 + 2**40, **SAMPLED).ids != alone


def test_without_a_seed_answers_differ(engine):
    assert run(engine, prompt_of(10), **SAMPLED).ids != run(engine, prompt_of(10), **SAMPLED).ids
