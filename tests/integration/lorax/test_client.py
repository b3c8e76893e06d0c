"""`Client` and `AsyncClient` against the peer: every parameter, every answer, every refusal."""

import json
import pickle
import re
import threading
import time

import pytest

from lagent_llms import AuthenticationError, InvalidArgument, LLMError
from lagent_llms.lorax import Client, errors
from lagent_llms.lorax.types import FinishReason, MergedAdapters

from .conftest import TOKEN, prompt_of

FRANCE = prompt_of("What is the capital of France?")
HELLO = prompt_of("Hello!")
CHINESE = prompt_of("你好")
COUNT = prompt_of("Count from 1 to 60.")
PARIS = "The capital of France is Paris."


def text_of(tokens):
    return "".join(one.token.text for one in tokens if not one.token.special)


# answers


def test_generate(client):
    response = client.generate(FRANCE, max_new_tokens=40)
    assert response.generated_text == PARIS
    details = response.details
    assert details.finish_reason == FinishReason.EndOfSequenceToken
    assert (details.seed, details.prefill, details.best_of_sequences) == (None, [], None)
    assert details.generated_tokens == len(details.tokens)
    assert details.prompt_tokens > 5
    assert [token.special for token in details.tokens] == [False] * (len(details.tokens) - 1) + [True]
    assert all(token.logprob <= 0 for token in details.tokens)


@pytest.mark.parametrize("prompt", [FRANCE, CHINESE, COUNT], ids=["english", "chinese", "long"])
def test_a_stream_adds_up_to_the_answer(client, prompt):
    whole = client.generate(prompt, max_new_tokens=400)
    tokens = client.tokens(prompt, max_new_tokens=400)
    assert text_of(tokens) == tokens[-1].generated_text == whole.generated_text
    assert [one.token.id for one in tokens] == [token.id for token in whole.details.tokens]
    assert tokens[-1].details.finish_reason == whole.details.finish_reason
    assert tokens[-1].details.generated_tokens == len(tokens)
    assert all(one.generated_text is None and one.details is None for one in tokens[:-1])
    assert "\N{REPLACEMENT CHARACTER}" not in whole.generated_text


def test_the_default_is_20_tokens(client):
    assert client.generate(COUNT).details.generated_tokens == 20
    assert len(client.tokens(COUNT)) == 20
    assert client.generate(COUNT, max_new_tokens=None).details.generated_tokens > 100


def test_without_details(client):
    assert client.generate(FRANCE, details=False).details is None
    last = client.tokens(FRANCE, details=False, max_new_tokens=40)[-1]
    assert (last.generated_text, last.details) == (PARIS, None)


def test_decoder_input_details(client):
    prefill = client.generate(FRANCE, decoder_input_details=True, max_new_tokens=1).details.prefill
    assert prefill[0].logprob is None
    assert all(token.logprob <= 0 for token in prefill[1:])
    assert prefill[0].text == "<s>"
    assert "".join(token.text for token in prefill[1:]) == FRANCE


def test_sampling_is_repeatable_and_best_of_gives_others(client):
    sampled = [client.generate(HELLO, temperature=3.0, seed=seed).generated_text for seed in (1, 1, 2, 3)]
    assert sampled[0] == sampled[1]
    assert len(set(sampled)) > 1
    details = client.generate(HELLO, best_of=2, do_sample=True, temperature=3.0).details
    assert details.seed is not None
    (other,) = details.best_of_sequences
    assert other.seed not in (None, details.seed)
    assert other.tokens


def test_greedy_is_temperature_0(client):
    assert client.generate(FRANCE, temperature=0, max_new_tokens=40).generated_text == PARIS


def test_every_sampling_filter_is_accepted(client):
    filters = {"top_k": 5, "top_p": 0.9, "typical_p": 0.9, "seed": 3}
    tokens = client.tokens(HELLO, do_sample=True, temperature=0.7, repetition_penalty=1.1, **filters)
    assert tokens[-1].details.seed == 3
    assert client.generate(HELLO, watermark=True, seed=1, temperature=2.0).generated_text


def test_penalties_change_what_is_generated(client):
    def logprobs(**given):
        return [token.logprob for token in client.generate(COUNT, max_new_tokens=30, **given).details.tokens]

    plain = logprobs()
    assert plain == logprobs()
    assert plain != logprobs(frequency_penalty=2.0) != logprobs(presence_penalty=2.0) != plain


def test_stop_sequences_are_part_of_the_text(client):
    response = client.generate(COUNT, stop_sequences=["7"], max_new_tokens=100)
    assert response.generated_text == "1, 2, 3, 4, 5, 6, 7"
    assert response.details.finish_reason == "stop_sequence"


def test_return_full_text_and_truncate(client):
    assert client.generate(FRANCE, return_full_text=True).generated_text.startswith(FRANCE)
    assert client.generate("a b c d e f g h", truncate=3, max_new_tokens=1).details.prompt_tokens == 3


def test_parameters_that_lorax_client_lacks(client):
    tokens = client.tokens(FRANCE, return_k_alternatives=3, max_new_tokens=5)
    for one in tokens:
        alternatives = one.token.alternative_tokens
        assert len(alternatives) == 3
        assert alternatives[0].id == one.token.id  # greedy decoding takes the best
        assert alternatives[0].logprob >= alternatives[1].logprob >= alternatives[2].logprob
    response = client.generate(FRANCE, ignore_eos_token=True, max_new_tokens=30)
    assert (response.details.finish_reason, response.details.generated_tokens) == ("length", 30)


def test_headers(client, peer):
    response = client.generate(FRANCE, adapter_id="french", adapter_source="local")
    found = response.headers
    assert (found.adapter_id, found.adapter_source, found.model_id) == ("french", "local", "embedded")
    assert found.generated_tokens == response.details.generated_tokens
    assert found.total_time >= found.inference_time >= found.time_per_token
    merged = MergedAdapters(ids=["french", "shout"], weights=[0.5, 0.5])
    assert client.generate(FRANCE, merged_adapters=merged).headers.adapter_id == "french,shout"
    assert client.generate(FRANCE).headers.adapter_id is None


def test_headers_of_a_stream(peer):
    with Client(peer.url) as client, client.generate_stream(FRANCE, adapter_id="french") as stream:
        assert stream.headers is None
        assert len(list(stream)) > 3
        assert (stream.headers.adapter_id, stream.headers.model_id) == ("french", "embedded")


def test_other_routes(client):
    info = client.info()
    assert (info.model_id, info.max_stop_sequences) == ("embedded", 4)
    assert client.health() is True
    tokens = client.tokenize("Hello 你好")
    assert tokens[0].text == ""
    assert [token.id for token in client.tokenize("Hello 你好", add_special_tokens=False)] == [
        token.id for token in tokens[1:]
    ]
    assert ("Hello", 0, 5) in [(token.text, token.start, token.stop) for token in tokens]
    assert len(client.embed("Hello").embeddings) == 192
    entities = client.classify("Alice met Bob.").entities
    assert [entity["word"] for entity in entities] == ["Alice", "Bob"]
    assert [len(one.entities) for one in client.classify_batch(["Alice met Bob.", "nobody"])] == [2, 0]
    assert "lorax_request_count" in client.metrics()


# response_format

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


class Person:
    """A class with the method of pydantic models that clients use."""

    @classmethod
    def model_json_schema(cls):
        return SCHEMA


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_object", "schema": SCHEMA},
        SCHEMA,
        Person,
        {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
    ],
    ids=["format", "schema", "class", "openai"],
)
def test_the_answer_follows_a_json_schema(client, given):
    text = client.generate(HELLO, response_format=given, max_new_tokens=200).generated_text
    assert sorted(json.loads(text)) == ["age", "name"]
    assert text_of(client.tokens(HELLO, response_format=given, max_new_tokens=200)) == text


@pytest.mark.parametrize("given", [r"[0-9]{4}-[0-9]{2}", re.compile("(yes|no)")], ids=str)
def test_the_answer_follows_a_regular_expression(client, given):
    text = client.generate(HELLO, response_format=given).generated_text
    assert re.fullmatch(given, json.loads(text))


# refusals


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"stop_sequences": ["a", "b", "c", "d", "e"]}, "up to 4 stop sequences"),
        ({"max_new_tokens": 10_000}, "must be <= 2048"),
        ({"truncate": 5000}, "truncate"),
        ({"best_of": 5, "do_sample": True}, "best_of"),
    ],
    ids=str,
)
def test_the_servers_own_limits(client, given, words):
    with pytest.raises(errors.ValidationError, match=words) as caught:
        client.generate(HELLO, **given)
    assert (caught.value.status_code, caught.value.code) == (422, "validation")
    if "best_of" not in given:  # inside a stream the status is HTTP 200
        with pytest.raises(errors.ValidationError, match=words) as caught:
            client.tokens(HELLO, **given)
        assert (caught.value.status_code, caught.value.code) == (422, "validation")


def test_an_adapter_that_is_not_there(client):
    for ask in (client.generate, client.tokens):
        with pytest.raises(
            errors.GenerationError, match="No adapter weights found for nobody/nothing"
        ) as caught:
            ask(HELLO, adapter_id="nobody/nothing")
        assert caught.value.status_code == 424
        assert pickle.loads(pickle.dumps(caught.value)).code == "generation"
    with pytest.raises(errors.GenerationError, match="s3"):
        client.generate(HELLO, adapter_id="french", adapter_source="s3")


def test_bad_input_is_refused_before_anything_is_sent(client, peer):
    before = peer.metric("lorax_request_count")
    for given in (
        {"merged_adapters": {"ids": ["french"], "weights": [1], "merge_strategy": "avarage"}},
        {"merged_adapters": {"ids": ["french"], "weights": [1], "majority_sign_method": "most"}},
        {"adapter_id": "a", "merged_adapters": {"ids": ["french"], "weights": [1]}},
        {"adapter_source": "ftp"},
        {"temperature": -1},
        {"response_format": 5},
    ):
        with pytest.raises(errors.ValidationError):
            client.generate(HELLO, **given)
        with pytest.raises(InvalidArgument):
            client.tokens(HELLO, **given)
    with pytest.raises(TypeError, match="temprature"):
        client.generate(HELLO, temprature=1)
    with pytest.raises(errors.ValidationError, match="cannot be empty"):
        client.generate("")
    assert peer.metric("lorax_request_count") == before


def test_private_adapters_and_their_tokens(connect, small_peer):
    plain = connect(small_peer.url)
    for given in ({}, {"api_token": "hf_wrong_token"}):
        with pytest.raises(errors.GenerationError, match="pirate is private") as caught:
            plain.generate(HELLO, adapter_id="pirate", **given)
        assert "hf_wrong_token" not in str(caught.value) + repr(caught.value)
    by_argument = plain.generate(HELLO, adapter_id="pirate", api_token=TOKEN).generated_text
    known = connect(
        small_peer.url, headers={"Authorization": f"Bearer {TOKEN}"}, cookies={"sid": "cookie_value"}
    )
    assert known.generate(HELLO, adapter_id="pirate").generated_text == by_argument
    assert text_of(known.tokens(HELLO, adapter_id="pirate")) == by_argument
    assert TOKEN not in repr(known.llm)
    assert "cookie_value" not in repr(known.llm)
    wrong = connect(small_peer.url, headers={"Authorization": "Bearer hf_wrong_token"})
    with pytest.raises(errors.GenerationError) as caught:
        wrong.tokens(HELLO, adapter_id="pirate")
    assert "hf_wrong_token" not in str(caught.value)


def test_too_many_requests(connect, small_peer):
    """Three concurrent requests are accepted; a fourth is refused, or retried if retries are allowed."""
    with_retries, without_retries = (
        connect(small_peer.url, max_session_retries=6),
        connect(small_peer.url, max_session_retries=0),
    )
    slow = COUNT + "[[slow 0.1]]"
    streams = [with_retries.stream("generate_stream", slow, max_new_tokens=60) for _ in range(3)]
    opened = [stream.__enter__() for stream in streams]
    for one in opened:
        next(iter(one))
    with pytest.raises(errors.OverloadedError) as caught:
        without_retries.generate(HELLO)
    assert caught.value.status_code == 429
    with pytest.raises(errors.OverloadedError):
        without_retries.tokens(HELLO)
    threading.Timer(0.3, lambda: streams[0].__exit__(None, None, None)).start()
    assert with_retries.generate(FRANCE).generated_text == PARIS
    for stream in streams[1:]:
        stream.__exit__(None, None, None)


# streams that end early


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_leaving_a_stream_stops_the_generation(client, peer):
    with client.stream("generate_stream", COUNT, max_new_tokens=1500, ignore_eos_token=True) as stream:
        next(iter(stream))
        assert peer.running() == 1
    assert wait_until(lambda: peer.running() == 0)


def test_a_failure_during_a_stream_has_the_partial_text(client):
    with pytest.raises(errors.GenerationError, match="as was asked for") as caught:
        client.tokens(COUNT + "[[error 9]]", max_new_tokens=60)
    assert caught.value.partial
    with pytest.raises(errors.IncompleteGenerationError, match="final event") as caught:
        client.tokens(FRANCE + "[[end]]", max_new_tokens=60)
    assert caught.value.partial
    with pytest.raises(LLMError) as caught:
        client.tokens(COUNT + "[[cut 9]]", max_new_tokens=60)
    assert caught.value.partial


def test_keep_alives_do_not_extend_timeouts_of_streams(connect, small_peer):
    client = connect(small_peer.url, timeout=1)
    with pytest.raises(TimeoutError) as caught:
        client.tokens(COUNT + "[[hang 3]]", max_new_tokens=60)
    assert caught.value.partial
    assert caught.value.seconds == 1
    assert wait_until(lambda: small_peer.running() == 0)


def test_keep_alives_are_no_tokens(connect, small_peer):
    client = connect(small_peer.url)
    tokens = client.tokens(HELLO + "[[slow 0.25]]", max_new_tokens=3)
    assert len(tokens) == 3


def test_errors_derive_from_errors_of_lagent_llms(connect, small_peer):
    with pytest.raises((AuthenticationError, errors.NotFoundError)):
        connect(small_peer.url + "/nothing/here").generate(HELLO)
