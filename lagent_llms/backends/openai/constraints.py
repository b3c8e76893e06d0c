"""`response_format` in the form of each kind of server: the fields of a request that carry it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ...structured.formats import Kind, choice_as_regex, kind_of, regex_of, schema_of
from .gbnf import choice_grammar, regex_grammar

__all__ = [
    "EVERY_FORM",
    "JSON_AND_REGEX",
    "JSON_ONLY",
    "LLAMACPP",
    "LLAMACPP_PROMPTS",
    "SGLANG",
    "TGI",
    "VLLM",
    "Constraints",
]

#: Makes the fields of a request from a checked `response_format`.
Writer: TypeAlias = Callable[[Mapping[str, Any]], dict[str, Any]]


class Constraints(NamedTuple):
    """What constrains answers on one route; None where the server has nothing for it.

    Attributes:
        json: A JSON object, or JSON with a schema.
        regex: Text that matches a regular expression.
        choice: One of several texts.
        other: A form that is not known here.
    """

    json: Writer
    regex: Writer | None = None
    choice: Writer | None = None
    other: Writer | None = None

    def fields(self, constraint: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that carry a checked `response_format`.

        Raises:
            ValueError: The server has none for it, or its form cannot express the value.
        """
        kind = kind_of(constraint)
        write = {"json": self.json, "schema": self.json, "regex": self.regex, "choice": self.choice}.get(
            kind, self.other
        )
        if write is None:
            raise ValueError(f"it has no field for {_NAMES.get(kind, 'this form')}")
        return write(constraint)


_NAMES: Mapping[Kind, str] = {"regex": "a regular expression", "choice": "a choice"}


def _as_it_is(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"response_format": dict(constraint)}


def _as_regex_schema(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"response_format": choice_as_regex(constraint)}


def _regex_field(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"regex": regex_of(constraint)}


def _structured_outputs(constraint: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of vLLM from 0.11 on, and of older ones: each ignores those of the other."""
    kind = kind_of(constraint)
    value = constraint["choice"] if kind == "choice" else regex_of(constraint)
    return {"structured_outputs": {kind: value}, f"guided_{kind}": value}


def _json_schema_field(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"json_schema": schema_of(constraint)}


def _grammar(constraint: Mapping[str, Any]) -> dict[str, Any]:
    if kind_of(constraint) == "choice":
        return {"grammar": choice_grammar(constraint["choice"])}
    return {"grammar": regex_grammar(regex_of(constraint))}


def _tgi_json(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json", "value": schema_of(constraint)}}


def _tgi_regex(constraint: Mapping[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "regex", "value": regex_of(constraint)}}


#: OpenAI's forms.
JSON_ONLY = Constraints(_as_it_is, other=_as_it_is)
#: The forms of `structured.formats`.
EVERY_FORM = Constraints(_as_it_is, _as_it_is, _as_it_is, _as_it_is)
#: lmdeploy's forms.
JSON_AND_REGEX = Constraints(_as_it_is, _as_regex_schema, _as_regex_schema, _as_it_is)
VLLM = Constraints(_as_it_is, _structured_outputs, _structured_outputs, _as_it_is)
SGLANG = Constraints(_as_it_is, _regex_field, _regex_field, _as_it_is)
LLAMACPP = Constraints(_as_it_is, _grammar, _grammar, _as_it_is)
LLAMACPP_PROMPTS = Constraints(_json_schema_field, _grammar, _grammar)
TGI = Constraints(_tgi_json, _tgi_regex, _tgi_regex, _as_it_is)
