"""The API key becomes a header: exactly as given, never shown."""

import enum

import pytest

from lagent_llms import InvalidArgument
from lagent_llms.http.config import given_headers


class Key(str, enum.Enum):
    TEAM = "k-1"


@pytest.mark.parametrize(
    ("key", "headers"),
    [
        (None, {}),
        ("", {}),
        ("k-1", {"Authorization": "Bearer k-1"}),
        (Key.TEAM, {"Authorization": "Bearer k-1"}),
    ],
)
def test_the_key_as_it_is_meant(key, headers):
    assert given_headers(None, key) == headers


@pytest.mark.parametrize("key", [b"secret", ["secret"], "secret\ud83d", "secret\n"])
def test_another_key_is_refused_and_not_shown(key):
    with pytest.raises(InvalidArgument) as caught:
        given_headers(None, key)
    assert "secret" not in str(caught.value)
