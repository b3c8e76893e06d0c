"""Logits, greedy ids and log-probabilities equal those of transformers, for every architecture."""

from __future__ import annotations

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from lagent_llms.jax_engine import Engine
from lagent_llms.jax_engine import engine as engine_module
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.model import (
    compute_logits,
    forward,
    init_kv_cache,
    read_kv_cache,
    write_kv_cache,
)
from lagent_llms.jax_engine.weights import load_weights

from . import checkpoints
from .conftest import prompt_of, run, start

KINDS = [*checkpoints.KINDS, "internlm2"]
torch.set_num_threads(1)


def reference(checkpoint, kind):
    """Return transformers' model; for InternLM2, the Llama model it was converted from."""
    path = checkpoint("llama" if kind == "internlm2" else kind)
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def greedy(model, prompt, count, **options):
    options = {"do_sample": False, "pad_token_id": 0, "max_new_tokens": count} | options
    with torch.no_grad():
        return model.generate(torch.tensor([prompt]), **options)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_logits(checkpoint, kind):
    """Compare all positions at once, and in two parts with the first part as cached history."""
    path = checkpoint(kind)
    config = ModelConfig.from_directory(path)
    weights = load_weights(path, config, np.float32, None, lambda name, array: jnp.asarray(array))
    rows = np.array([prompt_of(70), prompt_of(70, salt=1)])
    with torch.no_grad():
        expected = reference(checkpoint, kind)(torch.tensor(rows)).logits.numpy()

    def scores(hidden):
        return np.stack([compute_logits(config, weights, row) for row in hidden])

    is_long = jnp.full(2, config.rope_switch is not None and config.rope_switch < 70)
    none = jnp.zeros(2, jnp.int32)
    cache = init_kv_cache(config, 2, 80, jnp.dtype("float32"))
    block = read_kv_cache(cache, none, 0, 70)
    hidden, block = forward(config, weights, jnp.array(rows), none, block, 0, 0, is_long)
    assert np.abs(scores(hidden) - expected).max() < 1e-4
    slots = jnp.array([1, 0])
    cache = write_kv_cache(cache, block, slots, none, 0)
    block = read_kv_cache(cache, slots, 50, 30)
    hidden, _ = forward(config, weights, jnp.array(rows[:, 40:]), none + 40, block, 50, 0, is_long)
    assert np.abs(scores(hidden) - expected[:, 40:]).max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_ids(checkpoint, load, kind, monkeypatch):
    """Two prompts of different lengths in one batch, both longer than a chunk of the prefill."""
    monkeypatch.setattr(engine_module, "_PREFILL_CHUNK", 64)
    model, engine = reference(checkpoint, kind), load(kind, max_slots=2)
    prompts = [prompt_of(70), prompt_of(80, salt=2)]
    results = [start(engine, prompt, max_new_tokens=40, ignore_eos=True) for prompt in prompts]
    for prompt, result in zip(prompts, results, strict=True):
        assert result.wait().ids == greedy(model, prompt, 40, eos_token_id=None)


def test_a_sequence_that_becomes_long(checkpoint, load):
    """With LongRoPE, sequences beyond the original context have other keys from the first token on."""
    model, engine = reference(checkpoint, "phi3_longrope"), load("phi3_longrope", max_slots=2, decode_chunk=5)
    assert engine.config.rope_switch == 64
    prompts = [prompt_of(47), prompt_of(64, salt=1), prompt_of(64, salt=2)[:20]]
    results = [start(engine, prompt, max_new_tokens=50, ignore_eos=True, logprobs=1) for prompt in prompts]
    for prompt, result in zip(prompts, results, strict=True):
        assert result.wait().ids == greedy(model, prompt, 50, eos_token_id=None)
        assert [item.token_id for item in result.logprobs] == result.ids
    # The next prompts share the keys of the slots, as far as they are rotated alike.
    for prompt in (prompts[0], prompts[0] + results[0].ids[:40], prompts[0][:30]):
        expected = greedy(model, prompt, 10, eos_token_id=None)
        assert run(engine, prompt, max_new_tokens=10, ignore_eos=True).ids == expected


def test_requests_start_and_end_while_others_decode(checkpoint, engine):
    """Run ten requests of different lengths on four slots; later ones start while others decode."""
    model = reference(checkpoint, "llama")
    lengths = (3, 17, 40, 5, 100, 60, 16, 33, 2, 64)
    counts = (30, 3, 21, 8, 40, 1, 17, 9, 33, 16)
    cases = [(prompt_of(length, salt=length), count) for length, count in zip(lengths, counts, strict=True)]
    results = []
    for prompt, count in cases:
        results.append(start(engine, prompt, max_new_tokens=count, ignore_eos=True))
        if len(results) % 3 == 0:
            results[-2].wait()
    for (prompt, count), result in zip(cases, results, strict=True):
        assert result.wait().ids == greedy(model, prompt, count, eos_token_id=None)
        assert result.last.finish_reason == "length"


def test_end_tokens(checkpoint, load, tmp_path):
    """Each end token ends the answer where `generate` ends; the end token is reported, but not in the ids."""
    model = reference(checkpoint, "llama")
    prompts = [prompt_of(6, salt) for salt in range(6)]
    free = [greedy(model, prompt, 24, eos_token_id=None) for prompt in prompts]
    ends = [free[0][5], free[1][14]]
    path = shutil.copytree(checkpoint("llama"), tmp_path / "model")
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    endings = set()
    with Engine.load(path, max_slots=4) as engine:
        results = [start(engine, prompt, max_new_tokens=24) for prompt in prompts]
        for prompt, result, whole in zip(prompts, results, free, strict=True):
            expected = greedy(model, prompt, 24, eos_token_id=ends)
            ended = expected[-1] if expected[-1] in ends else None
            result.wait()
            assert result.ids == (expected[:-1] if ended else whole)
            assert result.last.end_token == ended
            assert result.last.finish_reason == ("stop" if ended else "length")
            endings.add(ended)
        assert run(engine, prompts[0], max_new_tokens=24, ignore_eos=True).ids == free[0]
    assert endings == {*ends, None}, "the cases should hold every ending"


def test_repetition_penalty(checkpoint, engine):
    model = reference(checkpoint, "llama")
    prompt = prompt_of(30)
    plain = greedy(model, prompt, 40, eos_token_id=None)
    expected = greedy(model, prompt, 40, eos_token_id=None, repetition_penalty=1.3)
    assert expected != plain
    neighbour = start(engine, prompt, max_new_tokens=40, ignore_eos=True)
    assert run(engine, prompt, max_new_tokens=40, ignore_eos=True, repetition_penalty=1.3).ids == expected
    assert neighbour.wait().ids == plain


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_logprobs(checkpoint, engine, temperature):
    """Log-probabilities are those of the model without filters, for the first and for later tokens."""
    model = reference(checkpoint, "llama")
    prompt = prompt_of(12)
    result = run(
        engine,
        prompt,
        max_new_tokens=20,
        ignore_eos=True,
        logprobs=3,
        temperature=temperature,
        top_k=5,
        seed=1,
    )
    with torch.no_grad():
        scores = model(torch.tensor([prompt + result.ids])).logits[0, len(prompt) - 1 : -1]
    expected = torch.log_softmax(scores, dim=-1).numpy()
    assert len(result.logprobs) == 20
    for row, token, item in zip(expected, result.ids, result.logprobs, strict=True):
        assert item.token_id == token
        assert item.logprob == pytest.approx(row[token], abs=1e-4)
        assert [index for index, _ in item.top] == np.argsort(-row)[:3].tolist()
        assert [value for _, value in item.top] == pytest.approx(np.sort(row)[::-1][:3].tolist(), abs=1e-4)


def test_bfloat16_is_close(checkpoint, load):
    """The log-probabilities of the first token are equal within the precision of bfloat16."""
    exact = run(load("llama", max_slots=1), prompt_of(20), max_new_tokens=1, logprobs=1, ignore_eos=True)
    rough = run(
        load("llama", max_slots=1, dtype="bf16"), prompt_of(20), max_new_tokens=1, logprobs=1, ignore_eos=True
    )
    assert rough.logprobs[0].logprob != exact.logprobs[0].logprob
    assert rough.logprobs[0].logprob == pytest.approx(exact.logprobs[0].logprob, abs=0.3)
