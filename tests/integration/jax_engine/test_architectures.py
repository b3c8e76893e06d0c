"""Keys that only some architectures have are read as transformers reads them, or refused by name."""

from __future__ import annotations

import json

import pytest
import transformers

from lagent_llms.errors import ModelLoadError
from lagent_llms.jax_engine.config import ModelConfig

from .checkpoints import LONGROPE, YARN
from .conftest import logits, prompt_of

OLD_LONGROPE = {"type" if key == "rope_type" else key: value for key, value in LONGROPE.items()}
OLD_YARN = {"type" if key == "rope_type" else key: value for key, value in YARN.items()}


@pytest.mark.parametrize(
    ("kind", "key", "read"),
    [
        ("gemma2", "query_pre_attn_scalar", lambda ours: ours.attention_scale**-2),
        ("gemma2", "attn_logit_softcapping", lambda ours: ours.attention_softcap),
        ("gemma2", "final_logit_softcapping", lambda ours: ours.logit_softcap),
        ("gemma3", "final_logit_softcapping", lambda ours: ours.logit_softcap),
        ("granite", "attention_multiplier", lambda ours: ours.attention_scale),
        ("granite", "embedding_multiplier", lambda ours: ours.embed_scale),
        ("granite", "residual_multiplier", lambda ours: ours.residual_scale),
        ("granite", "logits_scaling", lambda ours: ours.logit_divisor),
        ("smollm3", "no_rope_layers", lambda ours: [int(rope is not None) for rope in ours.ropes]),
        ("mixtral", "num_experts_per_tok", lambda ours: ours.experts.per_token),
        ("mixtral", "num_local_experts", lambda ours: ours.experts.per_layer),
        ("qwen2_moe", "num_experts", lambda ours: ours.experts.per_layer),
        ("qwen2_moe", "num_experts_per_tok", lambda ours: ours.experts.per_token),
        ("qwen2_moe", "moe_intermediate_size", lambda ours: ours.experts.size),
        ("qwen2_moe", "shared_expert_intermediate_size", lambda ours: ours.experts.shared_size),
        ("qwen2_moe", "norm_topk_prob", lambda ours: ours.experts.normalized),
        ("qwen2_moe", "qkv_bias", lambda ours: ours.qkv_bias),
        ("qwen3_moe", "moe_intermediate_size", lambda ours: ours.experts.size),
        ("qwen3_moe", "norm_topk_prob", lambda ours: ours.experts.normalized),
    ],
)
def test_absent_keys_of_one_architecture(copy, kind, key, read):
    path = copy(kind, [key])
    theirs = transformers.AutoConfig.from_pretrained(path)
    assert read(ModelConfig.from_directory(path)) == getattr(theirs, key)


@pytest.mark.parametrize(
    ("kind", "word", "changes"),
    [
        ("gemma2", "use_bidirectional_attention", {"use_bidirectional_attention": True}),
        ("gemma2", "hidden_activation='gelu'", {"hidden_activation": "gelu"}),
        ("gemma2", "sliding_window is missing", {"sliding_window": None}),
        ("gemma2", "attn_logit_softcapping=0", {"attn_logit_softcapping": 0}),
        ("gemma3", "attn_logit_softcapping=50.0", {"attn_logit_softcapping": 50.0}),
        ("gemma3", "Gemma3ForConditionalGeneration", {"architectures": ["Gemma3ForConditionalGeneration"]}),
        ("gemma3", "rope_scaling", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
        ("gemma3", "rope_theta=7", {"rope_parameters": {"rope_theta": 7, "rope_type": "default"}}),
        ("phi3", "partial_rotary_factor", {"rope_parameters": {"partial_rotary_factor": 0.4}}),
        ("phi3", "layer_types", {"layer_types": ["full_attention"] * 3}),
        ("phi3_longrope", "original_max_position_embeddings", {"original_max_position_embeddings": 65}),
        ("phi3_longrope", "long_factor", {"rope_parameters": LONGROPE | {"long_factor": [1.0] * 3}}),
        ("phi3_longrope", "short_factor", {"rope_parameters": LONGROPE | {"short_factor": [1, 2, 3, "4"]}}),
        ("llama", "partial_rotary_factor=0.5", {"partial_rotary_factor": 0.5}),
        ("llama", "factor", {"rope_scaling": YARN | {"factor": float("nan")}}),
        ("llama", "mscale", {"rope_scaling": YARN | {"mscale": -1.0, "mscale_all_dim": 1.0}}),
        ("llama", "beta_fast", {"rope_scaling": YARN | {"beta_fast": "32"}}),
        ("llama", "truncate", {"rope_scaling": YARN | {"truncate": 1}}),
        ("llama", "rope_theta", {"rope_scaling": YARN | {"rope_theta": 1.0}}),
        ("smollm3", "no_rope_layers", {"no_rope_layers": [1, 0]}),
        ("smollm3", "no_rope_layers", {"no_rope_layers": [1, 0, 2]}),
        ("smollm3", "no_rope_layer_interval", {"no_rope_layer_interval": 0, "no_rope_layers": None}),
        ("granite", "logits_scaling=0", {"logits_scaling": 0}),
        ("olmo2", "sliding_window", {"sliding_window": 24}),
        ("mixtral", "num_experts_per_tok", {"num_experts_per_tok": 6}),
        ("mixtral", "num_experts=4", {"num_experts": 4}),
        ("mixtral", "experts.5.w1.weight", {"num_local_experts": 6}),
        ("mixtral", "block_sparse_moe.gate.weight", {"num_local_experts": 4}),
        ("qwen2_moe", "mlp_only_layers", {"mlp_only_layers": [-1]}),
        ("qwen2_moe", "layers.1.mlp.shared_expert.gate_proj", {"mlp_only_layers": []}),
        ("qwen3_moe", "decoder_sparse_step", {"decoder_sparse_step": 0}),
        ("qwen3_moe", "norm_topk_prob", {"norm_topk_prob": "yes"}),
    ],
)
def test_refused_by_name(copy, kind, word, changes):
    with pytest.raises(ModelLoadError) as caught:
        logits(copy(kind, **changes), prompt_of(60))
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("gemma3", {"rope_theta": 5000.0, "rope_local_base_freq": 50.0}),
        ("gemma3", {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
        ("phi3_longrope", {"rope_theta": 500.0, "rope_scaling": OLD_LONGROPE}),
        ("yarn", {"rope_theta": 500.0, "rope_scaling": OLD_YARN}),
        ("qwen3_moe", {"num_local_experts": None, "num_experts": 7}),
    ],
    ids=str,
)
def test_keys_of_earlier_versions(copy, kind, old):
    path = copy(kind, ["rope_parameters", "num_local_experts"], **old)
    ours = ModelConfig.from_directory(path)
    transformers.AutoConfig.from_pretrained(path).save_pretrained(path)
    assert ModelConfig.from_directory(path) == ours
    assert "rope_scaling" not in json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("name", ["su", "yarn"])
def test_names_of_longrope_in_the_first_files_of_phi_3(copy, name):
    path = copy("phi3_longrope")
    data = json.loads((path / "config.json").read_text())
    old = data | {"rope_parameters": None, "rope_scaling": OLD_LONGROPE | {"type": name}}
    assert ModelConfig.from_dict(old) == ModelConfig.from_dict(data)
