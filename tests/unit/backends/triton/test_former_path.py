"""The dialects' former import path works for one version, and warns."""

import sys

import pytest

from lagent_llms.backends import triton


def test_the_former_path_warns_and_gives_the_same_objects(monkeypatch):
    for name in ("lagent_llms.wire", "lagent_llms.wire.triton"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.warns(DeprecationWarning, match="has moved to lagent_llms.backends.triton"):
        from lagent_llms.wire.triton import OneModelDialect, find_dialect, register_dialect
    assert OneModelDialect is triton.OneModelDialect
    assert find_dialect is triton.find_dialect
    assert register_dialect is triton.register_dialect
    assert set(triton.__all__) == {
        "Dialect", "InferRequest", "InferResponse", "Model", "OneModelDialect", "TextReader", "dialects",
        "find_dialect", "register_dialect",
    }  # fmt: skip
