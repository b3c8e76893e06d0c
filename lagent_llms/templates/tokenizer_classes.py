"""Special tokens that a model's files leave to its tokenizer class, as transformers 5 fills them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["default_tokens"]

_END = "<|endoftext|>"
#: Special tokens of a tokenizer class where the files name none.
_TOKENS: dict[str, dict[str, str]] = {
    "LlamaTokenizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "GemmaTokenizer": {
        "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    "Qwen2Tokenizer": {"eos_token": _END, "unk_token": _END, "pad_token": _END},
    "GPT2Tokenizer": {"bos_token": _END, "eos_token": _END, "unk_token": _END},
    "GPTNeoXTokenizer": {
        "bos_token": _END, "eos_token": _END, "unk_token": _END, "pad_token": "<|padding|>",
    },
    "CohereTokenizer": {
        "bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "unk_token": "<UNK>",
        "sep_token": "<SEP>", "pad_token": "<PAD>", "cls_token": "<CLS>", "mask_token": "<MASK_TOKEN>",
    },
}  # fmt: skip
_TOKENS["CodeLlamaTokenizer"] = _TOKENS["LlamaTokenizer"]
_TOKENS["CodeGenTokenizer"] = _TOKENS["GPT2Tokenizer"]
_TOKENS["Qwen3_5Tokenizer"] = _TOKENS["Qwen2Tokenizer"]

#: Types of models (`model_type` of config.json) by the class that transformers has for them.
_MODELS = {
    "CodeLlamaTokenizer": "code_llama",
    "GemmaTokenizer": "gemma gemma2 gemma3 gemma3_text gemma3n gemma3n_text recurrent_gemma",
    "Qwen2Tokenizer": "internvl qwen2 qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_moe qwen2_vl qwen3 qwen3_moe "
    "qwen3_next qwen3_omni_moe qwen3_vl qwen3_vl_moe",
    "Qwen3_5Tokenizer": "qwen3_5 qwen3_5_moe qwen3_5_moe_text qwen3_5_text",
    "GPT2Tokenizer": "codegen dbrx gpt2 gpt_neo gptj opt phi starcoder2",
    "GPTNeoXTokenizer": "falcon_mamba gpt_neox mamba mamba2 mpt olmo olmoe rwkv",
    "CohereTokenizer": "aya_vision cohere cohere2",
    # No class of their own: what a class would add is left out, whichever class the files name.
    "": "arctic ernie4_5 ernie4_5_moe glm glm4 glm4_moe glm4_moe_lite glm4v glm4v_moe gpt_bigcode granite "
    "granitemoe granitemoehybrid granitemoeshared internlm2 internlm3 jamba llava llava_next mimo_v2_flash "
    "minicpm3 minicpmv minimax_m2 ministral ministral3 mistral mistral3 mixtral molmo molmo2 nemotron olmo2 "
    "olmo3 phi3 phi3_v phimoe pixtral smolvlm stablelm",
}
_CLASS_OF = {model: name for name, models in _MODELS.items() for model in models.split()}
#: Types of models for which the files often name a wrong class; their own is taken.
_WRONG = frozenset({"qwen2", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text"})


def default_tokens(declared: object, model: object, is_byte_level: Callable[[], bool]) -> Mapping[str, str]:
    """Special tokens by name that a model has where its files name none.

    Args:
        declared: The tokenizer class that the files name.
        model: `model_type` of config.json.
        is_byte_level: Tells whether tokenizer.json describes a byte-level tokenizer.
    """
    name = declared.removesuffix("Fast") if isinstance(declared, str) else None
    own = _CLASS_OF.get(model) if isinstance(model, str) else None
    if own is not None and (not own or name is None or model in _WRONG):
        name = own
    if name == "LlamaTokenizer" and is_byte_level():
        return {}  # named by mistake in the files of Llama 3 and others
    return _TOKENS.get(name or "", {})
