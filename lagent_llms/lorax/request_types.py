"""Types of requests, validated before they are sent: an unknown merge strategy would abort the router."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from numbers import Integral, Real
from typing import Any

import msgspec

from .. import validators
from ..errors import InvalidArgument
from .base_model import BaseModel
from .error_types import ValidationError
from .response_format import ResponseFormat, response_format

__all__ = [
    "ADAPTER_SOURCES",
    "MAJORITY_SIGN_METHODS",
    "MERGE_STRATEGIES",
    "BatchRequest",
    "MergedAdapters",
    "Parameters",
    "Request",
]

ADAPTER_SOURCES = ["hub", "local", "s3", "pbase"]
MERGE_STRATEGIES = ["linear", "ties", "dare_linear", "dare_ties"]
MAJORITY_SIGN_METHODS = ["total", "frequency"]

Check = Callable[[str, Any], Any]


def _not_allowed(name: str, value: object, allowed: str) -> ValidationError:
    """Make the error for a `value` that `name` does not allow."""
    return ValidationError(f"`{name}` must be {allowed}, got {value!r}", argument=name)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _not_allowed(name, value, "a string")
    return value


def _token(name: str, value: Any) -> str:
    if not isinstance(value, str):  # the message must not show the value
        raise ValidationError(f"`{name}` must be a string, got a {type(value).__name__}", argument=name)
    return value


def _flag(name: str, value: Any) -> bool:
    plain = validators.to_builtin(value)
    if not isinstance(plain, bool):
        raise _not_allowed(name, value, "True or False")
    return plain


def _integer(allowed: str, low: int, high: float = math.inf) -> Check:
    def check(name: str, value: Any) -> int:
        whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
        if isinstance(value, bool) or not whole or not low <= value <= high:
            raise _not_allowed(name, value, allowed)
        return int(value)

    return check


def _number(allowed: str, is_allowed: Callable[[float], bool]) -> Check:
    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise _not_allowed(name, value, allowed)
        if not is_allowed(float(value)):
            raise _not_allowed(name, value, allowed)
        return int(value) if isinstance(value, Integral) else float(value)

    return check


def _one_of(names: list[str]) -> Check:
    def check(name: str, value: Any) -> str:
        plain = value.value if isinstance(value, Enum) else value
        if plain not in names:
            raise _not_allowed(name, value, f"one of {names}")
        return str(plain)

    return check


def _list(check: Check, allowed: str) -> Check:
    def check_all(name: str, value: Any) -> list[Any]:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise _not_allowed(name, value, allowed)
        return [check(f"{name}[{index}]", item) for index, item in enumerate(value)]

    return check_all


def _stop(name: str, value: Any) -> str:
    if not _text(name, value):
        raise _not_allowed(name, value, "a string that is not empty")
    return str(value)


def _merged(name: str, value: Any) -> MergedAdapters:
    if isinstance(value, MergedAdapters):
        return value
    if not isinstance(value, Mapping):
        raise _not_allowed(name, value, "a MergedAdapters, or a dict of its fields")
    if stray := [key for key in value if key not in MergedAdapters.__struct_fields__]:
        raise ValidationError(
            f"`{name}` has no field {stray[0]!r}; the fields are {list(MergedAdapters.__struct_fields__)}",
            argument=name,
        )
    if missing := [key for key in ("ids", "weights") if key not in value]:
        raise ValidationError(f"`{name}`: {missing[0]!r} is missing", argument=name)
    return MergedAdapters(**value)


_strictly_positive = _number("strictly positive", lambda value: value > 0)
_between_0_and_1 = _number("> 0.0 and < 1.0", lambda value: 0 < value < 1)
_penalty = _number("between -2.0 and 2.0", lambda value: -2 <= value <= 2)
_positive_integer = _integer("a strictly positive integer", 1)

_CHECKS: dict[str, Check] = {
    "adapter_id": _text,
    "adapter_source": _one_of(ADAPTER_SOURCES),
    "merged_adapters": _merged,
    "api_token": _token,
    "do_sample": _flag,
    "max_new_tokens": _positive_integer,
    "ignore_eos_token": _flag,
    "repetition_penalty": _strictly_positive,
    "frequency_penalty": _penalty,
    "presence_penalty": _penalty,
    "return_full_text": _flag,
    "stop": _list(_stop, "a list of strings"),
    "seed": _integer("an integer from 0 to 2**64-1", 0, 2**64 - 1),
    "temperature": _number("0 or more", lambda value: value >= 0),
    "top_k": _positive_integer,
    "top_p": _between_0_and_1,
    "truncate": _positive_integer,
    "typical_p": _between_0_and_1,
    "best_of": _positive_integer,
    "watermark": _flag,
    "details": _flag,
    "decoder_input_details": _flag,
    "return_k_alternatives": _positive_integer,
    "response_format": lambda name, value: response_format(value),
}
#: Fields for which the server does not accept null.
_NOT_NULLABLE = frozenset(
    {
        "decoder_input_details", "details", "do_sample", "ignore_eos_token", "return_full_text", "stop",
        "watermark",
    }
)  # fmt: skip


class MergedAdapters(BaseModel):
    """Several adapters to merge into one.

    Attributes:
        ids: Adapter ids, one or more.
        weights: Weight of each adapter, as many as ids.
        merge_strategy: 'linear' (the server's default), 'ties', 'dare_linear' or 'dare_ties'.
        density: Fraction of the adapters' weights to keep, 0 to 1; for all strategies but 'linear'.
        majority_sign_method: 'total' (the server's default) or 'frequency'; for 'ties' and 'dare_ties'.

    Raises:
        ValidationError: A value is not allowed.
    """

    ids: list[str]
    weights: list[float]
    merge_strategy: str | None = None
    density: float = 0.0
    majority_sign_method: str | None = None

    def __post_init__(self) -> None:
        self.ids = _list(_stop, "a list of adapter ids")("ids", self.ids)
        if not self.ids:
            raise ValidationError("`ids` cannot be empty", argument="ids")
        number = _number("a number", lambda value: True)
        self.weights = _list(number, "a list of numbers")("weights", self.weights)
        if not self.weights:
            raise ValidationError("`weights` cannot be empty", argument="weights")
        if len(self.weights) != len(self.ids):
            raise ValidationError(
                f"`ids` and `weights` must have the same length, got {len(self.ids)} and {len(self.weights)}",
                argument="weights",
            )
        self.density = _number(">= 0.0 and <= 1.0", lambda value: 0 <= value <= 1)("density", self.density)
        if self.merge_strategy is not None:
            self.merge_strategy = _one_of(MERGE_STRATEGIES)("merge_strategy", self.merge_strategy)
        if self.majority_sign_method is not None:
            self.majority_sign_method = _one_of(MAJORITY_SIGN_METHODS)(
                "majority_sign_method", self.majority_sign_method
            )


class Parameters(BaseModel, kw_only=True):
    """Parameters of a generation; see `lagent_llms.lorax.Client.generate`.

    Raises:
        ValidationError: The server would reject a value, or abort because of it.
    """

    adapter_id: str | None = None
    adapter_source: str | None = None
    merged_adapters: MergedAdapters | None = None
    api_token: str | None = None
    do_sample: bool = False
    max_new_tokens: int | None = None
    ignore_eos_token: bool = False
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    return_full_text: bool = False
    stop: list[str] = msgspec.field(default_factory=list)
    seed: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    truncate: int | None = None
    typical_p: float | None = None
    best_of: int | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    return_k_alternatives: int | None = None
    response_format: ResponseFormat | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None or name in _NOT_NULLABLE:
                setattr(self, name, check(name, value))
        if self.adapter_id is not None and self.merged_adapters is not None:
            raise ValidationError(
                "you must specify at most one of `adapter_id` or `merged_adapters`",
                argument="merged_adapters",
            )
        if self.best_of is not None and self.best_of > 1:
            self._check_best_of()

    def _check_best_of(self) -> None:
        if self.seed is not None:
            raise ValidationError("`seed` must not be set when `best_of` is > 1", argument="seed")
        warpers = (self.temperature, self.top_k, self.top_p, self.typical_p)
        if not self.do_sample and all(value is None for value in warpers):
            raise ValidationError("you must use sampling when `best_of` is > 1", argument="best_of")

    def __repr__(self) -> str:
        """The parameters that differ from the defaults, with `api_token` redacted."""
        defaults = Parameters()
        given = {
            name: "***" if name == "api_token" else value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) != getattr(defaults, name)
        }
        return f"Parameters({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def body(self) -> dict[str, Any]:
        """The JSON body: every field that is not None, defaults included."""
        return self.model_dump(exclude_none=True)


class Request(BaseModel):
    """A generation request: prompt (`inputs`), parameters, and whether to stream.

    Raises:
        ValidationError: The prompt is empty, or a parameter is not supported for streams.
    """

    inputs: str
    parameters: Parameters | None = None
    stream: bool = False

    def __post_init__(self) -> None:
        if not _text("inputs", self.inputs):
            raise ValidationError("`inputs` cannot be empty", argument="inputs")
        _check_request(self)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return _body(self)


class BatchRequest(BaseModel):
    """A request with several inputs.

    Raises:
        ValidationError: `inputs` is empty, or a parameter is not supported for streams.
    """

    inputs: list[str]
    parameters: Parameters | None = None
    stream: bool = False

    def __post_init__(self) -> None:
        self.inputs = _list(_stop, "a list of strings")("inputs", self.inputs)
        if not self.inputs:
            raise ValidationError("`inputs` cannot be empty", argument="inputs")
        _check_request(self)

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return _body(self)


def _body(request: Request | BatchRequest) -> dict[str, Any]:
    body: dict[str, Any] = {"inputs": request.inputs, "stream": request.stream}
    if request.parameters is not None:  # the server does not accept null
        body["parameters"] = request.parameters.body()
    try:
        return {name: validators.plain(name, value) for name, value in body.items()}
    except InvalidArgument as error:
        raise ValidationError(str(error), argument=error.argument) from None


def _check_request(request: Request | BatchRequest) -> None:
    _flag("stream", request.stream)
    if isinstance(request.parameters, Mapping):
        request.parameters = Parameters(**request.parameters)
    parameters = request.parameters
    if not request.stream or parameters is None:
        return
    if parameters.best_of is not None and parameters.best_of > 1:
        raise ValidationError("`best_of` != 1 is not supported when `stream` == True", argument="best_of")
    if parameters.decoder_input_details:
        raise ValidationError(
            "`decoder_input_details` is not supported when `stream` == True", argument="decoder_input_details"
        )
