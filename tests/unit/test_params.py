"""The table of parameters: columns, defaults, and the typed keywords derived from it."""

import types
import typing
from collections.abc import Sequence

import pytest

from lagent_llms.errors import InvalidArgument
from lagent_llms.params import (
    ALIASES,
    PARAMETERS,
    SWITCHES,
    CallKwargs,
    CallOptions,
    GenerationParams,
    Timeout,
)


def test_defaults_are_lagents():
    params, options = GenerationParams(), CallOptions()
    assert (params.max_new_tokens, params.top_p, params.top_k, params.temperature) == (512, 0.8, 40, 0.8)
    assert (params.repetition_penalty, params.stop_words, params.skip_special_tokens) == (1.0, None, False)
    assert (options.session_id, options.sequence_start, options.sequence_end) == (2967, True, True)
    assert (options.timeout.first_token, options.timeout.idle, options.timeout.connect) == (30, 30, 5)


def test_each_timeout_can_be_set():
    options = CallOptions(timeout=Timeout(first_token=120, idle=5, total=600))
    assert options.timeout == Timeout(connect=5, first_token=120, idle=5, total=600)
    with pytest.raises(InvalidArgument, match=r"Timeout\.idle=0"):
        Timeout(idle=0)


def test_a_timeout_can_be_a_mapping():
    assert CallOptions(timeout={"first_token": 120}).timeout == Timeout(first_token=120)
    for given, message in (
        ({"first": 1}, "timeout: unknown key 'first', did you mean 'first_token'"),
        ({"idle": 0}, r"Timeout\.idle=0: allowed is"),
    ):
        with pytest.raises(InvalidArgument, match=message) as caught:
            CallOptions(timeout=given)
        assert caught.value.argument == "timeout"


def members(hint):
    """Return the alternatives of a type hint; a generic type as its origin."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return {member for one in typing.get_args(hint) for member in members(one)}
    return {hint if origin in (None, typing.Literal) else origin}


def test_the_typed_keywords_equal_the_table():
    keywords = typing.get_type_hints(CallKwargs)
    assert set(keywords) == {*PARAMETERS, *ALIASES, *SWITCHES}
    wider = {tuple: Sequence, list: Sequence}  # checks convert any sequence to these
    for name, row in PARAMETERS.items():
        kept = members(typing.get_type_hints(row.table)[name])
        assert {wider.get(kind, kind) for kind in kept} <= members(keywords[name]), name
        for alias in row.aliases:
            assert keywords[alias] == keywords[name]


def test_the_columns_of_the_table():
    row = PARAMETERS["top_p"]
    assert (row.table, row.type, row.default, row.no_op) == (GenerationParams, "float", 0.8, 1)
    opt_in = {name for name, row in PARAMETERS.items() if row.opt_in}
    assert opt_in >= {"adapter_source", "merged_adapters", "priority", "parameters"}
    assert ALIASES == {
        "adapter_id": "adapter_name",
        "max_tokens": "max_new_tokens",
        "max_completion_tokens": "max_new_tokens",
        "query_per_second": "max_per_second",
        "stop": "stop_words",
    }
    assert PARAMETERS["max_new_tokens"].wire == "max_tokens"
    for row in PARAMETERS.values():
        assert row.default == getattr(row.table(), row.name)
        assert row.is_no_op(None)
        if row.no_op is not None:  # the check must accept it
            assert row.is_no_op(row.check(row.name, row.no_op))
        assert row.means_default(None) == (
            row.default is not None and row.name not in ("top_k", "tool_parser", "reasoning")
        )


def test_timeouts_are_checked():
    with pytest.raises(InvalidArgument):
        Timeout(connect=0)
