"""The files of a model: templates, special tokens and ends, read as transformers reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lagent_llms.errors import TemplateError
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


@pytest.mark.parametrize("files", MODELS.values(), ids=MODELS)
def test_a_model_renders_as_in_transformers(tmp_path: Path, files: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **files["tokenizer_config__json"]}
    folder = write(tmp_path, **{**files, "tokenizer_config__json": config})
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
