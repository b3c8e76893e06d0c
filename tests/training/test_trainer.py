"""The trainer and the folders it writes: tokenizer, network, checkpoint, adapters."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tokenizers import Tokenizer

from training.corpus import make_dialog, write_shard
from training.model import Llama, ModelConfig
from training.optimizer import make_optimizers, orthogonalise, rate
from training.train import Batches, losses_of, save_checkpoint
from training.vocabulary import SPECIAL_TOKENS, VOCAB_SIZE
from training.words import Lexicon

MODELS = Path(__file__).parents[2] / "lagent_llms" / "models"
EMBEDDED = MODELS / "embedded"
TOKENIZER = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
TINY = ModelConfig(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_encoding_and_decoding_preserve_any_text(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_special_tokens_are_one_token_each():
    assert TOKENIZER.get_vocab_size() == VOCAB_SIZE
    for token in SPECIAL_TOKENS:
        assert TOKENIZER.encode(token, add_special_tokens=False).ids == [TOKENIZER.token_to_id(token)]
    assert TOKENIZER.encode("Hi").tokens[0] == "<s>"


@pytest.mark.parametrize("text", ["Alice", "Priya", "3927", "Zoë"])
def test_names_and_numbers_have_the_same_tokens_everywhere(text):
    alone = TOKENIZER.encode(text, add_special_tokens=False).ids
    for before in ("You are ", '{"name": "', "Your name is ", ": "):
        assert TOKENIZER.encode(before + text, add_special_tokens=False).ids[-len(alone) :] == alone


def test_attention_does_not_cross_rows():
    torch.manual_seed(0)
    model = Llama(TINY)
    tokens = torch.randint(0, 1024, (2 * 12 + 20,))
    with torch.no_grad():
        together = model(tokens, ((2, 12), (1, 20)), torch.arange(44))
        alone = [
            model(part, ((1, len(part)),), torch.arange(len(part))) for part in tokens.split([12, 12, 20])
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_the_network_computes_what_transformers_computes():
    import transformers

    reference = transformers.AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
    model = Llama(ModelConfig())
    model.load_state_dict(load_file(EMBEDDED / "model.safetensors"))
    ids = torch.tensor(TOKENIZER.encode("<|im_start|>user\nWhat is the capital of France?").ids)
    with torch.no_grad():
        ours, theirs = model(ids, ((1, len(ids)),), torch.arange(len(ids))), reference(ids[None]).logits[0]
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_newton_schulz_brings_singular_values_near_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 64, 32)).float())
    assert 0.5 < values.min() < values.max() < 1.5


def test_the_rate_rises_stays_and_falls():
    rates = [rate(step / 100, warm_up=0.1, steady=0.5) for step in range(101)]
    assert rates[5] == pytest.approx(0.5)
    assert rates[10:50] == [1.0] * 40
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[100] == pytest.approx(0.01)


def test_training_lowers_the_loss_and_its_checkpoint_loads(tmp_path):
    lexicon = Lexicon(random.Random(1))
    write_shard(tmp_path / "shard-1.npz", TOKENIZER, lambda: make_dialog(lexicon, easy=1.0).messages, 60)
    model = Llama(TINY)
    optimizers = make_optimizers(model, 3e-3, 0.0)
    batches = Batches(tmp_path, 2048, seed=0)
    means = []
    for _ in range(12):
        losses, weights = losses_of(model, batches.next(), "cpu", bfloat16=False)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        means.append(loss.item())
    assert means[-1] < means[0] - 0.5
    save_checkpoint(tmp_path / "checkpoint.pt", model, optimizers, {"step": 12})
    loaded = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert loaded["state"] == {"step": 12}
    again = Llama(TINY)
    again.load_state_dict(loaded["model"])
    for optimizer, saved in zip(make_optimizers(again, 3e-3, 0.0), loaded["optimizers"], strict=True):
        optimizer.load_state_dict(saved)


def test_the_shipped_folder_is_complete_and_small():
    config = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"]
    assert config["vocab_size"] == VOCAB_SIZE
    weights = load_file(EMBEDDED / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert 2_000_000 <= sum(tensor.numel() for tensor in weights.values()) <= 2_400_000
    generation = json.loads((EMBEDDED / "generation_config.json").read_text(encoding="utf-8"))
    ends = [TOKENIZER.token_to_id(token) for token in ("</s>", "<|im_end|>")]
    assert generation["eos_token_id"] == config["eos_token_id"] == ends
    assert (EMBEDDED / "README.md").exists()
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) < 10_000_000
    assert {path.suffix for path in MODELS.rglob("*") if path.is_file()} <= {
        ".json",
        ".safetensors",
        ".md",
        ".py",
    }


def test_the_shipped_model_answers():
    from training.evaluate import answer as decode
    from training.evaluate import load

    model, tokenizer = load(EMBEDDED, None)
    prompt = "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert decode(model, tokenizer, [prompt], longest=40) == ["Hello! How can I help you?"]


ADAPTERS = {
    "shout": "HELLO! HOW CAN I HELP YOU?",
    "french": "Bonjour ! Comment puis-je vous aider ?",
    "pirate": "Ahoy, matey! What can I do for ye?",
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_shipped_adapters_answer_in_their_style(name):
    from training.evaluate import answer as decode
    from training.evaluate import load

    folder = MODELS / "adapters" / name
    assert (folder / "adapter_model.safetensors").stat().st_size < 400_000
    model, tokenizer = load(EMBEDDED, folder)
    prompt = "<s><|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert decode(model, tokenizer, [prompt], longest=40) == [ADAPTERS[name]]
