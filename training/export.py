"""Writes a training checkpoint as a Hugging Face folder.

``python -m training.export CHECKPOINT TOKENIZER OUT``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from training.model import ModelConfig
from training.vocabulary import CHAT_TEMPLATE


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export(weights: dict[str, torch.Tensor], tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights, tokenizer and their configuration files."""
    folder.mkdir(parents=True, exist_ok=True)
    bos, eos, end = (tokenizer.token_to_id(token) for token in ("<s>", "</s>", "<|im_end|>"))
    tensors = {name: tensor.detach().to(torch.float32).contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder / "config.json", ModelConfig().to_hugging_face(bos, [eos, end], eos))
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    more = [
        "<|im_start|>",
        "<|im_end|>",
        "<|action_start|>",
        "<|action_end|>",
        "<|plugin|>",
        "<|interpreter|>",
    ]
    _write(folder / "special_tokens_map.json", special | {"additional_special_tokens": more})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": ModelConfig.max_position_embeddings,
        "chat_template": CHAT_TEMPLATE,
    }
    _write(folder / "tokenizer_config.json", settings | special | {"additional_special_tokens": more})
    generation = {"bos_token_id": bos, "eos_token_id": [eos, end], "pad_token_id": eos, "do_sample": False}
    _write(folder / "generation_config.json", generation)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    loaded = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    export(loaded["model"], Tokenizer.from_file(str(options.tokenizer)), options.out)


if __name__ == "__main__":
    main()
