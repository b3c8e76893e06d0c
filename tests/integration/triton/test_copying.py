"""Pickles and copies of clients over gRPC; those over HTTP are in tests/unit/test_copying.py."""

import pytest

from lagent_llms import AsyncTritonClient, TritonClient
from tests.unit.test_copying import COMMON, WAYS, check_copy


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cls", [TritonClient, AsyncTritonClient])
def test_a_copy_has_the_same_configuration(cls, way):
    check_copy(cls, ["a:1"], {**COMMON, "dialect": "vllm", "echo": True}, way)
