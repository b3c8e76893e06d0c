"""Request fields as the router reads them, and the checks of the router in its order."""

import json
import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MOST_BYTES = 2 * 1024 * 1024
U32 = Annotated[int, Field(ge=0, lt=2**32)]
U64 = Annotated[int, Field(ge=0, lt=2**64)]


class Rejected(Exception):
    """The request is refused: as JSON with an `error_type`, or by the framework as plain text."""

    def __init__(self, status, message, error_type=None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_type = error_type

    @property
    def body(self):
        return {"error": self.message, "error_type": self.error_type}


class Fields(BaseModel):
    """Unknown fields are ignored; null is refused where a value is not optional."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class AdapterParameters(Fields):
    ids: list[str]
    weights: list[float] = []
    merge_strategy: str | None = None
    density: float = 0.0
    majority_sign_method: str | None = None


class ResponseFormat(Fields):
    type: str
    format_schema: dict[str, Any] | None = Field(None, alias="schema")


class Parameters(Fields):
    adapter_id: str | None = None
    adapter_source: str | None = None
    merged_adapters: AdapterParameters | None = None
    api_token: str | None = None
    best_of: U64 | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: U32 | None = None
    ignore_eos_token: bool = False
    return_full_text: bool | None = None
    stop: list[str] = []
    truncate: U64 | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    return_k_alternatives: int | None = None
    seed: U64 | None = None
    response_format: ResponseFormat | None = None

    @property
    def samples(self):
        """Whether any parameter enables sampling; a temperature of 0 is greedy."""
        given = (self.temperature, self.top_k, self.top_p, self.typical_p)
        return self.temperature != 0 and (self.do_sample or any(value is not None for value in given))


class GenerateRequest(Fields):
    inputs: str
    parameters: Parameters = Parameters()
    stream: bool = False


class TokenizeRequest(Fields):
    inputs: str
    add_special_tokens: bool | None = None


class EmbedRequest(Fields):
    inputs: str


class BatchRequest(Fields):
    inputs: list[str]


class Limits(BaseModel):
    """Limits given to the launcher."""

    max_concurrent_requests: int = 128
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_input_length: int = 1024
    max_total_tokens: int = 2048


def read(model, content_type, body):
    """Parse the body of a request as `model`.

    Raises:
        Rejected: The body is invalid; the answer is plain text, as from the router's framework.
    """
    if not content_type.split(";")[0].strip().endswith("json"):
        raise Rejected(415, "Expected request with `Content-Type: application/json`")
    if len(body) > MOST_BYTES:
        raise Rejected(413, "Failed to buffer the request body: length limit exceeded")
    try:
        found = json.loads(body)
    except ValueError as error:
        raise Rejected(400, f"Failed to parse the request body as JSON: {error}") from None
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        words = f"Failed to deserialize the JSON body into the target type: {where}: {first['msg']}"
        raise Rejected(422, words) from None


def check_stream(parameters):
    """Check parameters that only streams refuse."""
    if (parameters.best_of or 1) != 1:
        raise _invalid("`best_of` != 1 is not supported when streaming tokens")
    if parameters.decoder_input_details:
        raise _invalid("`decoder_input_details` == true is not supported when streaming tokens")


def check(request, limits, encode):
    """Check a request; return the token ids of the prompt, the maximal number of new tokens, and the seed.

    Args:
        request: The request.
        limits: The limits of the server.
        encode: Converts a text to token ids.
    """
    given = request.parameters
    _check_adapters(given)
    best_of = 1 if given.best_of is None else given.best_of
    if not 0 < best_of <= limits.max_best_of:
        raise _invalid(f"`best_of` must be > 0 and <= {limits.max_best_of}. Given: {best_of}")
    if best_of > 1 and not given.samples:
        raise _invalid("you must use sampling when `best_of` is > 1")
    _check_ranges(given)
    if given.max_new_tokens == 0:
        raise _invalid("`max_new_tokens` must be strictly positive")
    if len(given.stop) > limits.max_stop_sequences:
        words = f"up to {limits.max_stop_sequences} stop sequences. Given: {len(given.stop)}"
        raise _invalid(f"`stop` supports {words}")
    if best_of > 1 and given.seed is not None:
        raise _invalid("`seed` must not be set when `best_of` > 1")
    if not request.inputs:
        raise _invalid("`inputs` cannot be empty")
    if given.truncate is not None and not 0 < given.truncate <= limits.max_input_length:
        raise _invalid(
            f"`truncate` must be strictly positive and less than {limits.max_input_length}. "
            f"Given: {given.truncate}"
        )
    ids = encode(request.inputs)
    asked = given.max_new_tokens
    if asked is not None and len(ids) + asked > limits.max_total_tokens:
        raise _invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {limits.max_total_tokens}. "
            f"Given: {len(ids)} `inputs` tokens and {asked} `max_new_tokens`"
        )
    if given.truncate is not None:
        ids = ids[-given.truncate :]
    if len(ids) > limits.max_input_length:
        raise _invalid(f"`inputs` must have less than {limits.max_input_length} tokens. Given: {len(ids)}")
    if asked is None:
        asked = limits.max_total_tokens - len(ids)
    return ids, asked, random.getrandbits(64) if given.seed is None else given.seed


def _check_adapters(given):
    merged = given.merged_adapters
    if merged is None:
        return
    if given.adapter_id is not None:
        raise _invalid("at most one of `adapter_id` or `adapters` may be provided")
    if not merged.ids:
        raise _invalid("at least one adapter ID must be provided when setting `adapters`")
    if len(merged.ids) != len(merged.weights):
        raise _invalid("number of adapter IDs must match number of adapter weights")


def _check_ranges(given):
    for name, right, words in (
        ("temperature", lambda value: value >= 0, "be strictly positive or zero"),
        ("repetition_penalty", lambda value: value > 0, "be strictly positive"),
        ("top_p", lambda value: 0 < value <= 1, "be > 0.0 and <= 1.0"),
        ("typical_p", lambda value: 0 < value < 1, "be > 0.0 and < 1.0"),
        ("top_k", lambda value: value > 0, "be strictly positive"),
        ("return_k_alternatives", lambda value: value > 0, "be strictly positive"),
    ):
        value = getattr(given, name)
        if value is not None and not right(value):
            raise _invalid(f"`{name}` must {words}")


def _invalid(words):
    return Rejected(422, f"Input validation error: {words}", "validation")
