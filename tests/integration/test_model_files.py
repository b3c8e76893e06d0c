"""The templates and special tokens of model folders render as in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from tests.unit.templates.model_folders import MODELS, TOOLS, USER, ours, write


@pytest.mark.parametrize("files", MODELS.values(), ids=MODELS)
def test_a_model_renders_as_in_transformers(tmp_path: Path, files: dict[str, Any]) -> None:
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
