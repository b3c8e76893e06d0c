"""The files of a model: templates, special tokens and ends, read as transformers reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lagent_llms.errors import TemplateError
from lagent_llms.templates import load_template
from tests.unit.templates.model_folders import BYTE_LEVEL, NAMED, SHOW, USER, ours, write


def test_choosing_a_template_and_special_tokens(tmp_path: Path) -> None:
    folder = write(tmp_path, tokenizer_config__json={"chat_template": NAMED[1:], "bos_token": "<s>"})
    with pytest.raises(
        TemplateError, match=r"no template named 'default' \(templates: tool_use\).*chat_template"
    ):
        load_template(folder)
    assert ours({"path": str(folder), "chat_template": "tool_use"}).startswith(
        "thébos_token=<s>;eos_token=-;"
    )
    for spec in (folder, {"path": folder, "chat_template": "tool"}):
        with pytest.raises(TemplateError, match="tool_use"):
            load_template(spec)
    tokens = {"bos_token": None, "eos_token": "<|end|>"}
    template = load_template({"path": folder, "chat_template": "tool_use", "special_tokens": tokens})
    assert template is not None
    assert template.render(USER).startswith("thébos_token=-;eos_token=<|end|>;")
    assert (template.stop_words, template.bos) == (("<|end|>",), "")
    assert ours({"path": "{{ bos_token }}", "special_tokens": {"bos_token": "<s>"}}) == "<s>"
    folder = write(tmp_path, tokenizer_config__json={"chat_template": NAMED})
    with pytest.raises(TemplateError, match="chat_template='rag': .* has the templates default, tool_use"):
        ours(folder, chat_template="rag")


def test_a_lone_template_file(tmp_path: Path) -> None:
    (tmp_path / "my.jinja").write_text(SHOW, encoding="utf-8")
    assert ours(tmp_path / "my.jinja").startswith("hébos_token=-;")
    spec = {"path": tmp_path / "my.jinja", "special_tokens": {"bos_token": "<s>"}}
    assert ours(spec).startswith("hébos_token=<s>;")
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<b>"}', encoding="utf-8")
    assert ours(tmp_path / "my.jinja").startswith("hébos_token=<b>;")


@pytest.mark.parametrize(
    ("files", "stop_words"),
    [
        ({"generation_config__json": {"eos_token_id": [1, 2, 3]}}, ("</s>", "<|end|>", "<|call|>")),
        ({"generation_config__json": {"eos_token_id": 3}}, ("</s>", "<|call|>")),
        ({"generation_config__json": {}, "config__json": {"eos_token_id": [2]}}, ("</s>", "<|end|>")),
        ({"config__json": {"eos_token_id": 2}}, ("</s>", "<|end|>")),
        (
            {
                "tokenizer__json": {},
                "added_tokens__json": {"<|end|>": 2},
                "generation_config__json": {"eos_token_id": [2, 9]},
            },
            ("</s>", "<|end|>"),
        ),
        ({"generation_config__json": {"eos_token_id": "2"}}, ("</s>",)),
    ],
)
def test_ends_in_other_files(tmp_path: Path, files: dict[str, Any], stop_words: tuple[str, ...]) -> None:
    template = load_template(
        write(tmp_path, tokenizer_config__json={"chat_template": SHOW, "eos_token": "</s>"}, **files)
    )
    assert template is not None
    assert template.stop_words == stop_words


@pytest.mark.parametrize("given", [3, {"default": 3}, ["x"], [{"name": "default"}], True, [3]])
def test_templates_of_a_wrong_type(tmp_path: Path, given: object) -> None:
    with pytest.raises(TemplateError, match="chat_template is"):
        load_template(write(tmp_path, tokenizer_config__json={"chat_template": given}))


@pytest.mark.parametrize("given", [None, "", [], {}])
def test_no_template(tmp_path: Path, given: object) -> None:
    with pytest.raises(TemplateError, match="the model has no chat template"):
        load_template(write(tmp_path, tokenizer_config__json={"chat_template": given}))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"path": 3}, "path=3"),
        ({"path": ".", "chat_templates": "x"}, "'chat_templates' is not allowed"),
        ({"path": ".", "chat_template": ["x"]}, "chat_template="),
        ({"path": ".", "special_tokens": ["x"]}, "special_tokens="),
        ({"path": ".", "special_tokens": {"bos_token": 1}}, "special_tokens="),
        ({"path": "{{ x }}", "chat_template": "x"}, "'chat_template' is not allowed"),
    ],
)
def test_wrong_options(spec: dict[str, Any], word: str) -> None:
    with pytest.raises(TemplateError, match=word):
        load_template(spec)


@pytest.mark.parametrize(
    ("config", "files", "expected"),
    [
        (
            {"tokenizer_class": "LlamaTokenizerFast"},
            {},
            "bos_token=<s>;eos_token=</s>;unk_token=<unk>;pad_token=-",
        ),
        (
            {"tokenizer_class": "LlamaTokenizerFast", "bos_token": None, "eos_token": "<e>", "pad_token": ""},
            {},
            "bos_token=-;eos_token=<e>;unk_token=<unk>;pad_token=;",
        ),
        (
            {"tokenizer_class": "LlamaTokenizerFast"},
            {"tokenizer__json": BYTE_LEVEL},
            "bos_token=-;eos_token=-;",
        ),
        ({}, {"config__json": {"model_type": "gemma3"}}, "bos_token=<bos>;eos_token=<eos>;"),
        ({"tokenizer_class": "LlamaTokenizer"}, {"config__json": {"model_type": "mistral"}}, "bos_token=-;"),
        (
            {"tokenizer_class": "LlamaTokenizer"},
            {"config__json": {"model_type": "qwen2"}},
            "bos_token=-;eos_token=<|endoftext|>;",
        ),
        (
            {"tokenizer_class": ["x"]},
            {"config__json": {"model_type": 3}, "tokenizer__json": {"padding": {"pad_token": "<p>"}}},
            "bos_token=-;eos_token=-;unk_token=-;pad_token=<p>;",
        ),
    ],
)
def test_tokens_that_no_file_names(
    tmp_path: Path, config: dict[str, Any], files: dict[str, Any], expected: str
) -> None:
    folder = write(tmp_path, tokenizer_config__json={"chat_template": SHOW, **config}, **files)
    assert ours(folder).startswith("hé" + expected)
    template = load_template(folder)
    assert template is not None
    assert "" not in template.special_tokens
