"""Folders of models, whose files name templates and special tokens in every way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lagent_llms.templates import load_template

USER = [{"role": "user", "content": "hé"}]
NAMES = ("bos_token", "eos_token", "unk_token", "pad_token", "image_token", "boi_token")
SHOW = "{% for m in messages %}{{ m.content }}{% endfor %}" + "".join(
    f"{name}={{{{ {name} | default('-') }}}};" for name in NAMES
)
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
TOKEN = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
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
        file.parent.mkdir(exist_ok=True)
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
}
