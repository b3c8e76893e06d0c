"""Texts of vocabulary entries."""

import pytest

from lagent_llms.protocols.special_tokens import vocabulary_text


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("Ġcapital", " capital"),
        ("Ċ", "\n"),
        ("▁capital", " capital"),
        ("ä½ł", "你"),
        ("ä½", "ä½"),
        ("é", "é"),
        ("plain", "plain"),
        ("<|im_end|>", "<|im_end|>"),
        ("你", "你"),
        ("", ""),
    ],
)
def test_texts_of_vocabulary_entries(entry, text):
    assert vocabulary_text(entry) == text
