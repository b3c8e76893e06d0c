"""A checkpoint's config.json and weights agree, or the checkpoint is refused by the name of what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from lagent_llms.errors import ModelLoadError
from lagent_llms.jax_engine.config import ModelConfig
from lagent_llms.jax_engine.tokenizer import Tokenizer

from .checkpoints import LLAMA3_ROPE, SIZES
from .conftest import logits, prompt_of

PROMPT = prompt_of(60)
NEWER_KINDS = (
    "gemma2_uncapped",
    "gemma3",
    "phi3",
    "granite",
    "olmo2",
    "smollm3",
    "mixtral",
    "qwen2_moe_window",
    "qwen3_moe_window",
)
CONFIG = {**SIZES, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
ABSENT = (
    "head_dim",
    "max_position_embeddings",
    "max_window_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_parameters",
    "sliding_window",
    "tie_word_embeddings",
)


def change(path, remove=(), **tensors):
    """Replace, add or remove tensors."""
    file = path / "model.safetensors"
    old = {name: tensor for name, tensor in load_file(file).items() if name not in remove}
    save_file(old | {name.replace("__", "."): tensor for name, tensor in tensors.items()}, file)


def fails(path, *words):
    with pytest.raises(ModelLoadError) as caught:
        logits(path, PROMPT)
    for word in words:
        assert word in str(caught.value)


def agrees(path):
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor([PROMPT]), use_cache=False).logits[0].numpy()
    assert np.abs(logits(path, PROMPT) - expected).max() < 1e-3


def test_quantized_weights_that_config_does_not_name(copy):
    path, module = copy(), "model__layers__0__mlp__up_proj"
    plain = load_file(path / "model.safetensors")[f"{module}.weight".replace("__", ".")]
    change(path, **{f"{module}__weight": plain.astype(np.int8)})
    fails(path, "up_proj.weight", "I8", "quantized")
    packed = {f"{module}__qweight": np.zeros((4, 4), np.int32), f"{module}__scales": np.ones(4, np.float16)}
    change(path, [f"{module}.weight".replace("__", ".")], **packed)
    fails(path, "up_proj.weight", "qweight, scales", "quantized")


def test_windows_of_networks_without_windows(copy):
    fails(copy(sliding_window=24), "sliding_window=24", "LlamaForCausalLM")


@pytest.mark.parametrize(
    ("kind", "changes", "drop"),
    [
        ("llama", {"sliding_window": 24, "use_sliding_window": False}, ()),
        ("llama", {"sliding_window": 256}, ()),
        ("mistral_window", {"sliding_window": 24}, ()),
        (
            "qwen2",
            {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1},
            ["layer_types"],
        ),
        (
            "qwen3",
            {
                "use_sliding_window": True,
                "sliding_window": 24,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
            (),
        ),
    ],
)
def test_windows(copy, kind, changes, drop):
    agrees(copy(kind, drop, **changes))


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        *((kind, key) for kind in ("llama", "mistral", "qwen2", "qwen3") for key in ABSENT),
        *((kind, key) for kind in NEWER_KINDS for key in ABSENT if key != "max_window_layers"),
    ],
)
def test_absent_keys_are_read_as_transformers_reads_them(copy, kind, key):
    sizes = {"num_attention_heads": 32, "hidden_size": 256, "num_hidden_layers": 32}
    path = copy(kind, [key, "layer_types", "no_rope_layers"], use_sliding_window=True, **sizes)
    theirs = transformers.AutoConfig.from_pretrained(path)
    ours = ModelConfig.from_directory(path)
    window = getattr(theirs, "sliding_window", None)
    kinds = getattr(theirs, "layer_types", None) or ["sliding_attention"] * 32
    assert ours.windows == tuple(window if kind == "sliding_attention" else None for kind in kinds)
    assert (ours.num_kv_heads, ours.head_dim) == (
        theirs.num_key_value_heads,
        getattr(theirs, "head_dim", None) or 256 // 32,
    )
    assert (ours.max_positions, ours.norm_eps) == (theirs.max_position_embeddings, theirs.rms_norm_eps)
    tables = theirs.rope_parameters
    tables = [tables] if "rope_theta" in tables else [tables[kind] for kind in set(kinds)]
    thetas, dims = {table["rope_theta"] for table in tables}, np.arange(0, ours.head_dim, 2) / ours.head_dim
    assert {rope.frequencies for rope in ours.ropes if rope} == {tuple((x**-dims).tolist()) for x in thetas}
    assert ours.tied == theirs.tie_word_embeddings


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_in_the_file_is_used(copy, tied):
    agrees(copy(tie_word_embeddings=tied))


def test_a_copy_of_the_embedding_is_a_tied_head(copy):
    path = copy("llama_tied")
    embed = load_file(path / "model.safetensors")["model.embed_tokens.weight"]
    before = logits(path, PROMPT)
    change(path, lm_head__weight=embed)
    assert np.array_equal(logits(path, PROMPT), before)


def test_a_head_that_is_missing(copy):
    path = copy("llama_tied", tie_word_embeddings=False)
    fails(path, "lm_head.weight")


@pytest.mark.parametrize(
    ("kind", "changes", "tensor"),
    [
        ("llama3_rope", {"attention_bias": False}, "layers.0.self_attn.k_proj.bias"),
        ("llama3_rope", {"mlp_bias": False}, "layers.0.mlp.down_proj.bias"),
        ("llama", {"attention_bias": True}, "layers.0.self_attn.q_proj.bias"),
        ("llama", {"mlp_bias": True}, "layers.0.mlp.gate_proj.bias"),
        ("llama", {"num_hidden_layers": 2}, "layers.2.input_layernorm.weight' and 8 more"),
        ("qwen3", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "k_norm.weight"),
        ("internlm2", {"bias": True}, "attention.wqkv.bias"),
    ],
)
def test_tensors_that_config_denies_or_demands(copy, kind, changes, tensor):
    fails(copy(kind, **changes), tensor)


def test_buffers_of_old_checkpoints_are_skipped(copy):
    path = copy()
    before = logits(path, PROMPT)
    change(path, model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(4, np.float32))
    assert np.array_equal(logits(path, PROMPT), before)


INTEGERS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window")  # fmt: skip
NO_INTEGERS = (float("nan"), float("inf"), 1.5, 0, -1, 10**400, "2", [2], {"a": 2}, True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, value) for key in INTEGERS for value in NO_INTEGERS),
        *(("rms_norm_eps", value) for value in (float("nan"), 0, -1e-6, "1e-6", [1e-6], True)),
        *(("rope_theta", value) for value in (float("inf"), 0, "10000")),
        *((key, value) for key in ("tie_word_embeddings", "use_sliding_window") for value in (1, "no")),
        *(("architectures", value) for value in ("LlamaForCausalLM", [1], {})),
        *(("model_type", value) for value in ("llama", [], 3)),
        *(("hidden_act", value) for value in ("gelu", ["silu"], 1)),
        *(("eos_token_id", value) for value in ("2", -1, [2, "3"], [float("nan")], {}, 1.5, True)),
        *(("bos_token_id", value) for value in ("1", -1, [1])),
        *(("layer_types", value) for value in ("full_attention", ["full_attention"], ["other"] * 3)),
        *(("rope_scaling", value) for value in ("linear", ["linear"], {"full_attention": {}})),
        *(("max_window_layers", value) for value in (-1, "28")),
        *(("quantization_config", value) for value in ("fp8", [], {"quant_method": 3})),
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_key(key, value):
    with pytest.raises(ModelLoadError, match=key):
        ModelConfig.from_dict(CONFIG | {key: value})


@pytest.mark.parametrize("value", [None, float("nan"), "8", -8, [8]])
@pytest.mark.parametrize("key", [key for key in LLAMA3_ROPE if key != "rope_type"])
def test_wrong_values_of_rope_are_refused_by_key(key, value):
    with pytest.raises(ModelLoadError, match=key):
        ModelConfig.from_dict(CONFIG | {"rope_scaling": LLAMA3_ROPE | {key: value}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = (*INTEGERS, *ABSENT, "architectures", "model_type", "hidden_act", "eos_token_id", "layer_types",
        "rope_scaling", "quantization_config", "use_sliding_window")  # fmt: skip


@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=4))
def test_any_json_is_a_config_or_refused(changes):
    try:
        config = ModelConfig.from_dict(CONFIG | changes)
    except ModelLoadError:
        return
    assert len(config.windows) == config.num_layers
    assert config.num_heads % config.num_kv_heads == 0
    assert np.isfinite([rope.frequencies for rope in config.ropes]).all()


@pytest.mark.parametrize("value", ["2", [2, None], -1, 1.5, {}])
def test_wrong_ends_in_generation_config(copy, value):
    path = copy()
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    with pytest.raises(ModelLoadError, match="generation_config.json: eos_token_id"):
        Tokenizer(path, ModelConfig.from_directory(path))
