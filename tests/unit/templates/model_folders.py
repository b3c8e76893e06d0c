"""Folders of models, whose files name templates and special tokens in every way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lagent_llms.templates import load_template

USER = [{"role": "user", "content": "hé"}]
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "image_token", "boi_token")
SHOW = "{% for m in messages %}{{ m.content }}{% endfor %}" + "".join(
    f"{name}={{{{ {name} | default('-') }}}};" for name in NAMES
)
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
TOKEN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
PADDING = {
    "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 2,
    "pad_type_id": 0, "pad_token": "<|end|>",
}  # fmt: skip
NAMED = [{"name": "default", "template": "d" + SHOW}, {"name": "tool_use", "template": "t" + SHOW}]
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [
        {"id": number, "content": text, "special": True, **TOKEN}
        for number, text in enumerate(["<s>", "</s>", "<|end|>", "<|call|>"])
    ],
    "model": {
        "type": "WordLevel",
        "vocab": {"<s>": 0, "</s>": 1, "<|end|>": 2, "<|call|>": 3},
        "unk_token": "<s>",
    },
}


def write(folder: Path, **files: Any) -> Path:
    """Write files by name, with '__' for '.'; all but templates are JSON."""
    for name, content in {"tokenizer__json": TOKENIZER, **files}.items():
        file = folder / name.replace("__", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def ours(spec: Any, **options: Any) -> str:
    template = load_template(spec)
    assert template is not None
    return template.render(USER, **options)


MODELS: dict[str, dict[str, Any]] = {
    "transformers 4": {
        "tokenizer_config__json": {
            "chat_template": SHOW,
            "bos_token": "<s>",
            "eos_token": {"__type": "AddedToken", "content": "</s>", **TOKEN},
            "added_tokens_decoder": {"0": {"content": "<s>", "special": True, **TOKEN}},
        },
        "special_tokens_map__json": {"bos_token": "</s>", "pad_token": "<|end|>"},
    },
    "special_tokens_map alone": {
        "tokenizer_config__json": {"chat_template": SHOW},
        "special_tokens_map__json": {
            "bos_token": {"content": "<s>", **TOKEN},
            "eos_token": "</s>",
            "additional_special_tokens": ["<|end|>"],
        },
    },
    "special_tokens_map before the configuration": {
        "tokenizer_config__json": {"chat_template": SHOW, "bos_token": "<s>", "eos_token": "</s>"},
        "special_tokens_map__json": {"eos_token": "<|end|>"},
    },
    "transformers 5": {
        "tokenizer_config__json": {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "image_token": "<|call|>",
            "backend": "tokenizers",
            "extra_special_tokens": {"boi_token": "<|end|>"},
            "pad_token": None,
            "add_bos_token": True,
        },
        "chat_template__jinja": SHOW,
    },
    "a list of extra tokens": {
        "tokenizer_config__json": {
            "chat_template": SHOW,
            "eos_token": "</s>",
            "extra_special_tokens": ["<|end|>"],
        },
    },
    "a null template beside a file": {
        "tokenizer_config__json": {"chat_template": None, "eos_token": "</s>"},
        "chat_template__jinja": SHOW,
    },
    "named templates": {"tokenizer_config__json": {"chat_template": NAMED, "bos_token": "<s>"}},
    "named templates in a dict": {
        "tokenizer_config__json": {"chat_template": {item["name"]: item["template"] for item in NAMED}},
    },
    "a file before named templates": {
        "tokenizer_config__json": {"chat_template": NAMED},
        "chat_template__jinja": "f" + SHOW,
    },
    "files before named templates": {
        "tokenizer_config__json": {"chat_template": NAMED},
        "chat_template__jinja": "f" + SHOW,
        "additional_chat_templates/tool_use__jinja": "u" + SHOW,
        "additional_chat_templates/rag__jinja": "r" + SHOW,
    },
    "no configuration": {
        "chat_template__jinja": SHOW,
        "special_tokens_map__json": {"bos_token": "<s>", "eos_token": {"content": "</s>", **TOKEN}},
    },
    "a template file alone": {"chat_template__jinja": SHOW},
    "null in the map": {
        "tokenizer_config__json": {"chat_template": SHOW, "bos_token": "<s>", "eos_token": "</s>"},
        "special_tokens_map__json": {"bos_token": None},
    },
    "empty tokens": {
        "tokenizer_config__json": {
            "chat_template": SHOW + "{{ bos_token + '.' + image_token }}",
            "bos_token": "",
            "image_token": "",
        },
    },
    "tokens of the model itself": {
        "tokenizer_config__json": {
            "chat_template": SHOW,
            "image_token": "<|call|>",
            "extra_special_tokens": {"image_token": "<|end|>"},
            "model_specific_special_tokens": {"boi_token": "<s>"},
            "added_tokens_decoder": {},
        },
    },
    "tokens of the model itself, saved": {
        "tokenizer_config__json": {
            "chat_template": SHOW,
            "model_specific_special_tokens": {"boi_token": "<|end|>", "image_token": "<|call|>"},
        },
    },
    "tokens of the model itself in both files": {
        "tokenizer_config__json": {"chat_template": SHOW, "extra_special_tokens": {"boi_token": "<|end|>"}},
        "special_tokens_map__json": {"extra_special_tokens": {"image_token": "<|call|>"}},
    },
    "a token of the padding": {
        "tokenizer_config__json": {"chat_template": SHOW, "eos_token": "</s>"},
        "tokenizer__json": {**TOKENIZER, "padding": PADDING},
    },
    "no token of the padding": {
        "tokenizer_config__json": {"chat_template": SHOW, "pad_token": None},
        "tokenizer__json": {**TOKENIZER, "padding": PADDING},
    },
}

BPE = {**TOKENIZER, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
BYTE_LEVEL = {**BPE, "decoder": _DECODER}
#: Tokenizer class of the files, what config.json says, and tokenizer.json.
CLASSES: list[tuple[str | None, dict[str, Any], dict[str, Any]]] = [
    ("LlamaTokenizer", {}, BPE),
    ("LlamaTokenizerFast", {"model_type": "llama"}, BPE),
    ("LlamaTokenizerFast", {"model_type": "llama"}, BYTE_LEVEL),
    ("LlamaTokenizer", {"model_type": "mistral"}, BPE),
    ("LlamaTokenizerFast", {"model_type": "qwen2"}, BPE),
    ("LlamaTokenizerFast", {"model_type": "phi3"}, BPE),
    ("LlamaTokenizerFast", {"model_type": "gemma2"}, BPE),
    ("CodeLlamaTokenizer", {"model_type": "code_llama"}, BPE),
    ("GemmaTokenizer", {}, BPE),
    ("Qwen2Tokenizer", {"model_type": "qwen3"}, BPE),
    ("Qwen2TokenizerFast", {"model_type": "llama"}, BPE),
    ("GPT2Tokenizer", {"model_type": "gpt2"}, BYTE_LEVEL),
    ("GPTNeoXTokenizerFast", {"model_type": "gpt_neox"}, BPE),
    ("CohereTokenizerFast", {"model_type": "cohere"}, BPE),
    ("PreTrainedTokenizerFast", {"model_type": "gemma"}, BPE),
    ("UnknownTokenizer", {}, BPE),
    (None, {"model_type": "gemma3_text"}, BPE),
    (None, {"model_type": "qwen2"}, BPE),
    (None, {"model_type": "llama"}, BPE),
    (None, {"model_type": "phi", "tokenizer_class": "CodeGenTokenizer"}, BPE),
    (None, {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"}, BPE),
    (None, {"model_type": "granite"}, BPE),
    (None, {}, BPE),
]
