"""The templates and special tokens of model folders render as in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.unit.templates.model_folders import BPE, CLASSES, MODELS, NAMED, SHOW, TOOLS, USER, ours, write


@pytest.mark.parametrize("files", MODELS.values(), ids=MODELS)
def test_a_model_renders_as_in_transformers(tmp_path: Path, files: dict[str, Any]) -> None:
    if "tokenizer_config__json" in files:
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **files["tokenizer_config__json"]}
        files = {**files, "tokenizer_config__json": config}
    folder = write(tmp_path, **files)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)

    def expected(**options: Any) -> str:
        text = theirs.apply_chat_template(USER, tokenize=False, add_generation_prompt=True, **options)
        assert isinstance(text, str)
        return text

    assert ours(folder) == expected()
    assert ours(folder, tools=TOOLS) == expected(tools=TOOLS)
    assert ours(folder, tools=[]) == expected(tools=[])
    assert ours(folder, bos_token="<x>") == expected(bos_token="<x>")
    for name in theirs.chat_template if isinstance(theirs.chat_template, dict) else ():
        assert ours({"path": folder, "chat_template": name}, tools=TOOLS) == expected(chat_template=name)
        assert ours(folder, chat_template=name) == expected(chat_template=name)
    assert ours({"path": folder, "chat_template": "{{ bos_token }}!"}) == expected(
        chat_template="{{ bos_token }}!"
    )


@pytest.mark.parametrize(("name", "config", "tokenizer"), CLASSES)
@pytest.mark.parametrize("named", [{}, {"bos_token": None, "eos_token": "<|end|>"}], ids=["bare", "named"])
def test_a_tokenizer_class_fills_in_tokens(
    tmp_path: Path, name: str | None, config: dict[str, Any], tokenizer: dict[str, Any], named: dict[str, Any]
) -> None:
    files: dict[str, Any] = {"tokenizer_config__json": {"chat_template": SHOW, **named}}
    if name is not None:
        files["tokenizer_config__json"]["tokenizer_class"] = name
    if config:
        files["config__json"] = config
    folder = write(tmp_path, tokenizer__json=tokenizer, **files)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert ours(folder) == theirs.apply_chat_template(USER, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("tokens", [{"bos_token": "<x>"}, {"bos_token": None, "pad_token": "<|end|>"}])
def test_special_tokens_by_argument(tmp_path: Path, tokens: dict[str, str | None]) -> None:
    config = {"chat_template": SHOW, "bos_token": "<s>", "tokenizer_class": "LlamaTokenizer"}
    folder = write(tmp_path, tokenizer_config__json=config, tokenizer__json=BPE)
    theirs = transformers.AutoTokenizer.from_pretrained(folder, **tokens)
    expected = theirs.apply_chat_template(USER, tokenize=False, add_generation_prompt=True)
    assert ours({"path": folder, "special_tokens": tokens}) == expected


def test_files_that_transformers_saves(tmp_path: Path) -> None:
    """In each way in which it saves templates, with tokens beside the standard ones."""
    folder = write(tmp_path / "model", tokenizer_config__json={"chat_template": NAMED, "bos_token": "<s>"})
    theirs = transformers.AutoTokenizer.from_pretrained(
        folder, eos_token="</s>", extra_special_tokens={"image_token": "<|end|>", "boi_token": "<|call|>"}
    )
    for number, jinja in enumerate((True, False)):
        saved = tmp_path / str(number)
        theirs.save_pretrained(saved, save_jinja_files=jinja)
        again = transformers.AutoTokenizer.from_pretrained(saved)
        for name in (None, "tool_use"):
            expected = again.apply_chat_template(USER, tokenize=False, chat_template=name)
            assert ours(saved, chat_template=name) == expected
            assert "image_token=<|end|>" in expected
