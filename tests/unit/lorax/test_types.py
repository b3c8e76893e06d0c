"""LoRAX's types and errors: the cases of lorax-client's own tests, and further ones."""

import pickle
import re

import msgspec
import pytest

from lagent_llms import AuthenticationError, InvalidArgument, LLMError, NotFound, RateLimited, ServerError
from lagent_llms.errors import ModelStatusCode, StreamInterrupted
from lagent_llms.http.secrets import Secrets
from lagent_llms.lorax import errors, types
from lagent_llms.lorax.errors import UnprocessableEntityError, ValidationError, parse_error
from lagent_llms.lorax.response_format import response_format
from lagent_llms.lorax.types import (
    BatchRequest,
    Details,
    FinishReason,
    InputToken,
    MergedAdapters,
    Parameters,
    Request,
    Response,
    ResponseFormat,
    StreamResponse,
    Token,
)

MERGED = {"ids": ["a", "b"], "weights": [0.5, 0.5]}

# parameters


@pytest.mark.parametrize(
    "given",
    [
        {"best_of": 1}, {"best_of": 2, "do_sample": True}, {"best_of": 2, "temperature": 0.5},
        {"repetition_penalty": 1}, {"seed": 0}, {"seed": 1}, {"temperature": 0}, {"temperature": 1},
        {"top_k": 1}, {"top_p": 0.5}, {"typical_p": 0.5}, {"truncate": 1}, {"adapter_id": "a"},
        {"merged_adapters": MergedAdapters(**MERGED, density=0.5)}, {"max_new_tokens": None},
        {"frequency_penalty": -2}, {"presence_penalty": 2}, {"return_k_alternatives": 3}, {"stop": ("a",)},
        {"adapter_source": "pbase"}, {"max_new_tokens": 3.0},
    ],
    ids=str,
)  # fmt: skip
def test_right_parameters(given):
    Parameters(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"best_of": 0}, {"best_of": -1}, {"best_of": 2}, {"best_of": 2, "seed": 1},
        {"best_of": 2, "seed": 1, "do_sample": True}, {"repetition_penalty": 0}, {"repetition_penalty": -1},
        {"seed": -1}, {"seed": 2**64}, {"temperature": -1}, {"temperature": float("nan")}, {"top_k": 0},
        {"top_k": -1}, {"top_p": 0}, {"top_p": -1}, {"top_p": 1}, {"truncate": 0}, {"truncate": -1},
        {"typical_p": 0}, {"typical_p": -1}, {"typical_p": 1}, {"adapter_id": "a", "merged_adapters": MERGED},
        {"max_new_tokens": 0}, {"max_new_tokens": "many"}, {"max_new_tokens": True}, {"stop": "a"},
        {"stop": [""]}, {"stop": None}, {"do_sample": None}, {"watermark": 1}, {"adapter_source": "ftp"},
        {"frequency_penalty": 3}, {"return_k_alternatives": 0}, {"adapter_id": 5}, {"api_token": 5},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_parameters_are_refused_and_named(given):
    with pytest.raises(ValidationError) as caught:
        Parameters(**given)
    assert caught.value.argument.split("[")[0] in given
    assert caught.value.status_code is None
    assert isinstance(caught.value, (InvalidArgument, ValueError))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ids": []}, "`ids` cannot be empty"),
        ({"ids": "ab"}, "a list of adapter ids"),
        ({"ids": ["a", 5]}, r"ids\[1\]"),
        ({"weights": []}, "`weights` cannot be empty"),
        ({"weights": [1]}, "must have the same length, got 2 and 1"),
        ({"weights": [1, "x"]}, r"weights\[1\]"),
        ({"density": 1.5}, "density"),
        ({"density": -0.1}, "density"),
        ({"merge_strategy": "Linear"}, "merge_strategy"),
        ({"merge_strategy": "dare"}, "'dare_linear'"),
        ({"majority_sign_method": "sum"}, "'frequency'"),
    ],
)
def test_a_merge_that_would_stop_the_server_is_refused(changed, words):
    with pytest.raises(ValidationError, match=words):
        MergedAdapters(**{**MERGED, **changed})
    with pytest.raises(ValidationError, match=words):
        Parameters(merged_adapters={**MERGED, **changed})


def test_merged_adapters_as_a_dict():
    assert Parameters(merged_adapters=MERGED).merged_adapters == MergedAdapters(**MERGED)
    with pytest.raises(ValidationError, match="no field 'strategy'"):
        Parameters(merged_adapters={**MERGED, "strategy": "ties"})
    with pytest.raises(ValidationError, match="'weights' is missing"):
        Parameters(merged_adapters={"ids": ["a"]})


def test_requests():
    Request(inputs="test")
    Request(inputs="test", stream=True)
    Request(inputs="test", parameters=Parameters(best_of=2, do_sample=True))
    with pytest.raises(ValidationError, match="cannot be empty"):
        Request(inputs="")
    with pytest.raises(ValidationError, match="best_of"):
        Request(inputs="test", parameters=Parameters(best_of=2, do_sample=True), stream=True)
    with pytest.raises(ValidationError, match="decoder_input_details"):
        Request(inputs="test", parameters=Parameters(decoder_input_details=True), stream=True)
    with pytest.raises(ValidationError, match="cannot be empty"):
        BatchRequest(inputs=[])


def test_a_request_body_has_no_nulls():
    """The router rejects null for several fields; return_full_text must be sent even if it is the default."""
    body = Request("x", Parameters(adapter_id="a", merged_adapters=None, temperature=0)).body()
    assert body == {
        "inputs": "x",
        "stream": False,
        "parameters": {
            "adapter_id": "a", "do_sample": False, "ignore_eos_token": False, "return_full_text": False,
            "stop": [], "temperature": 0, "watermark": False, "details": False,
            "decoder_input_details": False,
        },
    }  # fmt: skip


def test_an_api_token_does_not_show():
    parameters = Parameters(api_token="hf_secret", top_k=3)
    assert repr(parameters) == str(parameters) == "Parameters(api_token='***', top_k=3)"
    assert "hf_secret" not in repr(Request("x", parameters))
    assert parameters.body()["api_token"] == "hf_secret"
    with pytest.raises(ValidationError) as caught:
        Parameters(api_token=b"hf_secret")
    assert "hf_secret" not in str(caught.value)


# response_format

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


class Person:
    """A class with the method of pydantic models."""

    @classmethod
    def model_json_schema(cls):
        return SCHEMA


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"type": "json_object", "schema": SCHEMA}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_object"}, None),
        ({"type": "json_object", "schema": Person}, SCHEMA),
        ({"type": "text"}, None),
        (SCHEMA, SCHEMA),
        ({"enum": ["yes", "no"]}, {"enum": ["yes", "no"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        (ResponseFormat(type="json_object", schema=SCHEMA), SCHEMA),
        (Person, SCHEMA),
        (r"\d{4}", {"type": "string", "pattern": r"\d{4}"}),
        (re.compile(r"\d{4}"), {"type": "string", "pattern": r"\d{4}"}),
    ],
    ids=str,
)
def test_response_formats(given, schema):
    found = response_format(given)
    assert found.schema == found.schema_spec == schema
    assert found.type in ("json_object", "json_schema", "text")


@pytest.mark.parametrize(
    "given", [5, "(", {"type": "xml"}, {}, {"name": "x"}, int, re.compile(b"x"), ["a"]], ids=str
)
def test_wrong_response_formats(given):
    with pytest.raises(ValidationError) as caught:
        response_format(given)
    assert caught.value.argument == "response_format"


# responses

PAYLOAD = {
    "generated_text": "Hi",
    "details": {
        "finish_reason": "length",
        "prompt_tokens": 1,
        "generated_tokens": 1,
        "seed": None,
        "prefill": [{"id": 0, "text": "<s>", "logprob": None}],
        "tokens": [{"id": 3, "text": "Hi", "logprob": None, "special": False, "unknown": 1}],
    },
}


def test_responses_have_the_api_of_lorax_client():
    response = Response(**PAYLOAD)
    assert response.details.finish_reason == FinishReason.Length == "length"
    assert response.details.prefill[0] == InputToken(id=0, text="<s>", logprob=None)
    assert response.details.tokens[0].logprob is None
    assert response == Response.model_validate(PAYLOAD) == Response.parse_obj(PAYLOAD)
    assert response == Response.model_validate_json(response.model_dump_json())
    assert response == Response(**response.dict())
    assert msgspec.json.decode(response.json())["details"]["finish_reason"] == "length"
    assert "best_of_sequences" not in response.model_dump(exclude_none=True)["details"]
    assert response.model_copy(update={"generated_text": "x"}).generated_text == "x"
    assert pickle.loads(pickle.dumps(response)) == response
    step = StreamResponse(token=PAYLOAD["details"]["tokens"][0], generated_text=None)
    assert step.token == Token(id=3, text="Hi", logprob=None, special=False)


def test_invalid_responses_raise_an_error_that_names_the_field():
    with pytest.raises(ValidationError, match="generated_text"):
        Response.model_validate({})
    with pytest.raises(ValidationError, match="details"):
        Response(generated_text="x", details={"finish_reason": 5, "generated_tokens": 1})
    with pytest.raises(ValidationError):
        Response.model_validate_json("{")


def test_old_servers_do_not_count_the_prompt():
    assert Details(finish_reason="eos_token", generated_tokens=2, tokens=[]).prompt_tokens == 0


# errors


@pytest.mark.parametrize(
    ("status", "error_type", "expected", "ours"),
    [
        (400, "generation", errors.GenerationError, ServerError),
        (400, "incomplete_generation", errors.IncompleteGenerationError, StreamInterrupted),
        (400, "overloaded", errors.OverloadedError, RateLimited),
        (400, "validation", errors.ValidationError, InvalidArgument),
        (400, "", errors.BadRequestError, ServerError),
        (401, "", errors.UnauthorizedError, AuthenticationError),
        (403, "", errors.ShardNotReadyError, AuthenticationError),
        (424, "", errors.ShardNotReadyError, ServerError),
        (504, "", errors.ShardTimeoutError, ServerError),
        (404, "", errors.NotFoundError, NotFound),
        (429, "", errors.RateLimitExceededError, RateLimited),
        (422, "", errors.UnprocessableEntityError, errors.ValidationError),
        (422, "template_error", errors.UnprocessableEntityError, ServerError),
        (500, "", errors.UnknownError, ServerError),
        (500, "embedding_failure", errors.UnknownError, ServerError),
        (200, "overloaded", errors.OverloadedError, RateLimited),
        (200, "tool_error", errors.UnprocessableEntityError, ServerError),
        (200, "something new", errors.UnknownError, ServerError),
    ],
)
def test_errors_are_classified_by_type_then_by_status(status, error_type, expected, ours):
    error = parse_error(status, {"error": "some words", "error_type": error_type})
    assert isinstance(error, expected)
    assert isinstance(error, ours)
    assert isinstance(error, LLMError)
    assert "some words" in str(error)
    assert error.code == error_type
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_an_error_inside_a_stream_has_the_status_it_would_have_had():
    found = {kind: parse_error(200, {"error": "x", "error_type": kind}).status_code for kind in
             ("overloaded", "validation", "generation", "incomplete_generation")}  # fmt: skip
    assert found == {"overloaded": 429, "validation": 422, "generation": 424, "incomplete_generation": 500}


def test_the_message_has_the_trace_id():
    assert "Trace ID: 7" in str(parse_error(500, {"error": "x"}, {"x-b3-traceid": "7"}))


def test_errors_have_the_constructors_of_lorax_client():
    assert str(errors.UnknownError("words", 500)) == "Error status 500: words"
    assert "`m` is not available" in str(errors.NotSupportedError("m"))
    assert (
        pickle.loads(pickle.dumps(errors.NotSupportedError("m"))).args == errors.NotSupportedError("m").args
    )
    for name in errors.__all__:
        if name != "parse_error":
            assert str(getattr(errors, name)("words")).count("words") == 1
    assert UnprocessableEntityError("x").status == ModelStatusCode.SESSION_INVALID_ARG


def test_every_public_name_can_be_imported():
    import lagent_llms.lorax as ours
    from lagent_llms.lorax.client import AsyncClient, Client, MergedAdapters  # noqa: F401

    for name in (*types.__all__, *errors.__all__, "Client", "AsyncClient"):
        assert hasattr(ours, name)


def test_secrets_do_not_show():
    secrets = Secrets.of("Bearer tok_1234", None, "tok_1234_longer", "x")
    assert secrets.redact("tok_1234_longer and tok_1234, Bearer x") == "*** and ***, Bearer x"
    headers = {"Accept": "application/json", "X-Api-Key": "key_1234", "authorization": "Bearer tok_1234"}
    assert Secrets.in_headers(headers) == ["key_1234", "Bearer tok_1234"]


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        ("\ud83d", {}, "inputs: '.ud83d' at 0 is half a character"),
        ("hi", {"stop": ["\ud83d"]}, r"parameters\['stop'\]\[0\]: '.ud83d' at 0"),
        ("hi", {"adapter_id": "\ud83d"}, r"parameters\['adapter_id'\]: "),
        (
            "hi",
            {"response_format": {"type": "json_object", "schema": {"default": 1j}}},
            r"\['schema'\]\['default'\]=1j: allowed is text",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(inputs, parameters, message):
    with pytest.raises(ValidationError, match=message):
        Request(inputs=inputs, parameters=Parameters(**parameters)).body()


def test_a_set_in_a_schema_is_sent_as_a_list():
    schema = {"type": "object", "required": {"b", "a"}}
    body = Request(inputs="hi", parameters=Parameters(response_format=schema)).body()
    assert body["parameters"]["response_format"]["schema"]["required"] == ["a", "b"]
