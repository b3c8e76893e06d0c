"""Create tiny random checkpoints of every architecture with transformers' classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

TEXTS = [
    "Hello, who are you? I am a small model.",
    "The capital of France is Paris, and the capital of Japan is Tokyo.",
    "你好，世界！今天天气很好。🙂🚀 naïve café — Ünïcödé",
    '{"name": "Ada", "age": 36}',
    "one two three four five six seven eight nine ten 0 1 2 3 4 5 6 7 8 9",
]
VOCAB = 320
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.2, 2.0, 3.0],
    "long_factor": [1.5, 3.0, 5.0, 9.0],
}
GEMMA3 = {"head_dim": 12, "sliding_window": 24, "sliding_window_pattern": 3, "query_pre_attn_scalar": 16}
MOE = {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 20}

#: Name -> transformers' config class, and differences from SIZES.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_tied": ("Llama", {"tie_word_embeddings": True, "head_dim": 12, "num_key_value_heads": 4}),
    "llama3_rope": (
        "Llama",
        {"rope_scaling": LLAMA3_ROPE, "rope_theta": 500.0, "attention_bias": True, "mlp_bias": True},
    ),
    "linear_rope": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral_window": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 1}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "yarn": ("Qwen2", {"rope_scaling": YARN | {"rope_theta": 1000.0}}),
    "yarn_scales": (
        "Llama",
        {"rope_scaling": YARN | {"mscale": 0.8, "mscale_all_dim": 0.5, "beta_fast": 8, "truncate": False}},
    ),
    "yarn_factor": ("Llama", {"rope_scaling": YARN | {"attention_factor": 1.3, "beta_slow": 2}}),
    "gemma2": (
        "Gemma2",
        {
            "head_dim": 12,
            "query_pre_attn_scalar": 20,
            "sliding_window": 24,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma2_uncapped": (
        "Gemma2",
        {"head_dim": 8, "final_logit_softcapping": None, "attn_logit_softcapping": None},
    ),
    "gemma3": ("Gemma3", GEMMA3 | {"final_logit_softcapping": 5.0}),
    "gemma3_linear": (
        "Gemma3",
        GEMMA3
        | {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
            }
        },
    ),
    "phi3": ("Phi3", {"sliding_window": 24}),
    "phi3_longrope": ("Phi3", {"rope_scaling": LONGROPE, "original_max_position_embeddings": 64}),
    "phi4_partial": (
        "Phi3",
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "partial_rotary_factor": 0.75,
            "tie_word_embeddings": True,
            "original_max_position_embeddings": 256,
            "rope_scaling": LONGROPE | {"short_factor": [1.0, 1.1, 1.5, 2, 3, 4], "long_factor": [1.0] * 6},
        },
    ),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
    "olmo2": ("Olmo2", {}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0, 1]}),
    "smollm3_window": (
        "SmolLM3",
        {"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 24},
    ),
    "mixtral": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 24}),
    "qwen2_moe": (
        "Qwen2Moe",
        MOE | {"shared_expert_intermediate_size": 40, "mlp_only_layers": [1], "norm_topk_prob": True},
    ),
    "qwen2_moe_window": (
        "Qwen2Moe",
        MOE | {"shared_expert_intermediate_size": 40, "use_sliding_window": True, "sliding_window": 24},
    ),
    "qwen3_moe": ("Qwen3Moe", MOE | {"head_dim": 16, "decoder_sparse_step": 2}),
    "qwen3_moe_window": (
        "Qwen3Moe",
        MOE
        | {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": 24,
            "norm_topk_prob": True,
            "attention_bias": True,
        },
    ),
}


def byte_level_tokenizer() -> tokenizers.Tokenizer:
    """Return a byte-level BPE with BOS 1, EOS 2 and two chat markers."""
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    fast.train_from_iterator(TEXTS, trainer)
    return fast


def save_tokenizer(path: Path) -> None:
    """Write the tokenizer's files into a checkpoint directory."""
    byte_level_tokenizer().save(str(path / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def make(kind: str, path: Path, **changes: Any) -> Path:
    """Write a random checkpoint of `kind` to `path`; norms and biases are randomized as well."""
    torch.manual_seed(sum(map(ord, kind)))
    family, differences = KINDS[kind]
    text = "TextConfig" if family == "Gemma3" else "Config"
    config = getattr(transformers, f"{family}{text}")(**(SIZES | differences | changes))
    model = getattr(transformers, f"{family}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "experts" in name or name.endswith("gate.weight"):  # not all of them have random values
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(path)
    save_tokenizer(path)
    return path


def rename_to_internlm2(source: Path, path: Path) -> Path:
    """Write the Llama checkpoint `source` with InternLM2's names and its fused wqkv."""
    path.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    dim, hidden, group = config["hidden_size"] // heads, config["hidden_size"], heads // kv
    weights = load_file(source / "model.safetensors")
    renamed = {}
    for name, tensor in weights.items():
        for old, new in (
            ("embed_tokens", "tok_embeddings"),
            ("lm_head", "output"),
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
        ):
            name = name.replace(old, new)
        renamed[name] = tensor
    for index in range(config["num_hidden_layers"]):
        q, k, v = (renamed.pop(f"model.layers.{index}.self_attn.{part}_proj.weight") for part in "qkv")
        rows = torch.cat(
            [q.view(kv, group, dim, hidden), k.view(kv, 1, dim, hidden), v.view(kv, 1, dim, hidden)], dim=1
        )
        renamed[f"model.layers.{index}.attention.wqkv.weight"] = rows.reshape(-1, hidden).contiguous()
    save_file(renamed, path / "model.safetensors")
    config |= {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    # Old-style keys, as in InternLM2's files.
    config["rope_theta"] = config.pop("rope_parameters", {}).get("rope_theta", 10000.0)
    config["rope_scaling"] = {"type": "dynamic", "factor": 2.0}
    config["torch_dtype"] = config.pop("dtype", "float32")
    (path / "config.json").write_text(json.dumps(config))
    save_tokenizer(path)
    return path
