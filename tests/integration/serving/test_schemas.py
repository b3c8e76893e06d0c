"""Limits on the fields of requests."""

import pytest

from lagent_llms import InvalidArgument
from lagent_llms.serving.openai import schemas


def stop_words(stop):
    request = schemas.ChatCompletionRequest(
        model="m", messages=[{"role": "user", "content": "hi"}], stop=stop
    )
    return request.keywords().get("stop_words")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ([f"{i};" for i in range(129)], "stop: 129 stop words: allowed are at most 128"),
        ("x" * 16_385, "stop: 16385 characters in all stop words together: allowed are at most 16384"),
        (["x" * 10_000, "y" * 10_000], "stop: 20000 characters in all stop words together"),
    ],
)
def test_stop_words_are_limited_in_number_and_size(stop, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        stop_words(stop)
    assert caught.value.argument == "stop"


def test_stop_words_within_the_limits_are_accepted():
    assert stop_words("x" * 16_384) == ("x" * 16_384,)
    assert len(stop_words([f"{i:03}" for i in range(128)])) == 128
