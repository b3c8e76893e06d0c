"""Secrets in texts."""

import pytest

from lagent_llms.redaction import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("key sk-1-long and sk-1", "key *** and ***"),
        ("see https://user:pass@host/path", "see https://***@host/path"),
        ("grpc://me@host", "grpc://***@host"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_secrets_are_replaced(text, expected):
    assert redact(text, ["sk-1-long", "sk-1"]) == expected
