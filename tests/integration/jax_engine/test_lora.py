"""A PEFT adapter is merged as PEFT applies it, or refused with the word that matters."""

from __future__ import annotations

import json

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from lagent_llms.errors import ModelLoadError

from .conftest import logits, prompt_of

PROMPT = prompt_of(40)
PATTERNS = {"rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 3}}


def train(path, folder, **options):
    """Save an adapter with random updates; return the logits of PEFT's model, loaded from it."""
    torch.manual_seed(3)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj", "down_proj"]} | options

    def base():
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    adapted = peft.get_peft_model(base(), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for _, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    adapted.save_pretrained(folder)
    loaded = peft.PeftModel.from_pretrained(base(), folder).eval()
    with torch.no_grad():
        return loaded(torch.tensor([PROMPT])).logits[0].numpy()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", PATTERNS),
        ("llama", {"use_rslora": True, **PATTERNS}),
        ("llama", {"init_lora_weights": "orthogonal"}),
        ("llama", {"target_modules": "all-linear"}),
        ("llama", {"layers_to_transform": [2]}),
        ("llama", {"target_modules": ["lm_head", "embed_tokens", "q_proj"]}),
        ("llama", {"modules_to_save": ["lm_head", "embed_tokens", "norm"]}),
        ("llama_tied", {"target_modules": ["embed_tokens"]}),
        ("llama_tied", {"target_modules": ["lm_head", "v_proj"]}),
        ("llama_tied", {"modules_to_save": ["lm_head"]}),
        ("qwen2", {"bias": "lora_only", "target_modules": ["k_proj", "up_proj"]}),
        ("llama3_rope", {"bias": "all"}),
        ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"]}),
        ("gemma2", {"target_modules": "all-linear"}),
        ("gemma3", {"modules_to_save": ["norm"]}),
        ("olmo2", {"target_modules": ["embed_tokens", "k_proj"]}),
        ("qwen2_moe", {"target_modules": ["q_proj", "o_proj", "shared_expert.up_proj"]}),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_merged_as_peft_applies_it(checkpoint, tmp_path, kind, options):
    path = checkpoint(kind)
    expected = train(path, tmp_path, **options)
    assert np.abs(logits(path, PROMPT, tmp_path) - expected).max() < 1e-3
    assert np.abs(logits(path, PROMPT) - expected).max() > 0.1


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("lora_bias", {"lora_bias": True}),
        ("init_lora_weights='pissa'", {"init_lora_weights": "pissa"}),
        ("init_lora_weights='pissa_niter_4'", {"init_lora_weights": "pissa_niter_4"}),
        ("init_lora_weights='olora'", {"init_lora_weights": "olora"}),
        ("use_dora", {"use_dora": True}),
        ("trainable_token_indices", {"trainable_token_indices": [5]}),
        ("layer_replication", {"layer_replication": [(0, 2), (1, 3)]}),
        ("alora_invocation_tokens", {"alora_invocation_tokens": [7, 8]}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_refused_by_name(checkpoint, tmp_path, word, options):
    train(checkpoint("llama"), tmp_path, **options)
    fails(checkpoint("llama"), tmp_path, word)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
@pytest.mark.filterwarnings("ignore")
def test_updates_of_experts_are_refused(checkpoint, tmp_path, kind):
    train(checkpoint(kind), tmp_path, target_parameters=["experts.gate_up_proj"], target_modules=["q_proj"])
    fails(checkpoint(kind), tmp_path, "target_parameters")


SETTINGS = {"peft_type": "LORA", "r": 2, "lora_alpha": 2}


def fails(path, adapter, *words):
    with pytest.raises(ModelLoadError) as caught:
        logits(path, PROMPT, adapter)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("word", "changes"),
    [
        ("peft_type='IA3'", {"peft_type": "IA3"}),
        ("r=0", {"r": 0}),
        ("r='2'", {"r": "2"}),
        ("lora_alpha is missing", {"lora_alpha": None}),
        ("lora_alpha=nan", {"lora_alpha": float("nan")}),
        ("use_rslora=[]", {"use_rslora": []}),
        ("init_lora_weights={}", {"init_lora_weights": {}}),
        ("rank_pattern=3", {"rank_pattern": 3}),
        ("rank_pattern: (=3", {"rank_pattern": {"(": 3}}),
        ("fan_in_fan_out", {"fan_in_fan_out": True}),
        ("target_parameters", {"target_parameters": ["experts.weight"]}),
        ("a_feature_of_later_versions", {"a_feature_of_later_versions": True}),
    ],
)
def test_settings_that_are_wrong(checkpoint, tmp_path, word, changes):
    left = {f"base_model.model.model.layers.0.self_attn.q_proj.lora_{side}.weight" for side in "AB"}
    save_file({name: np.zeros((2, 32), np.float32) for name in left}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS | changes))
    fails(checkpoint("llama"), tmp_path, word)


def test_files_that_are_missing(checkpoint, tmp_path):
    fails(checkpoint("llama"), tmp_path, "adapter_config.json")
    (tmp_path / "adapter_config.json").write_text(json.dumps(SETTINGS))
    fails(checkpoint("llama"), tmp_path, "adapter_model.safetensors")


def test_tensors_without_a_place(checkpoint, tmp_path):
    train(checkpoint("llama"), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    for name in ("base_model.model.model.layers.9.mlp.up_proj.lora_A.weight", "model.odd"):
        save_file(tensors | {name: np.zeros((4, 32), np.float32)}, file)
        fails(checkpoint("llama"), tmp_path, name.removeprefix("base_model.model."))
