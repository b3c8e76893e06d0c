"""Checks of `logit_bias` and of parameters that hold further fields of a request; the merging of a body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument
from .validators import listed, number, plain, refusal, shown, to_builtin

__all__ = ["extra_body", "extra_inputs", "logit_bias", "with_extra_fields"]

_bias = number("a number from -100 to 100", -100, 100)
#: Fields whose answers only a parameter can read, and that parameter.
_READ_BY = {"n": "n", "best_of": "n", "stream": "stream"}


def logit_bias(name: str, value: Any) -> dict[int, float] | None:
    """None, or a dict of token ids (integers, or their digits as in JSON) and numbers from -100 to 100."""
    if value is None:
        return None
    known = to_builtin(value)
    if not isinstance(known, Mapping):
        raise refusal(name, value, "None or a dict of token ids and numbers such as {1734: -100}")
    found = {}
    for key, bias in known.items():
        token = to_builtin(key)
        if isinstance(token, str) and token.isascii() and token.isdecimal():
            token = int(token)
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise InvalidArgument(
                f"{name}: {shown(key)} is no token id; llm.tokenize(text) gives those of a text",
                argument=name,
            )
        try:
            found[token] = float(_bias(f"{name}[{token}]", bias))  # transformers' server takes no integers
        except InvalidArgument as error:
            raise InvalidArgument(str(error), argument=name) from None
    return found


def extra_body(name: str, value: Any) -> dict[str, Any] | None:
    """None or a dict with the types of JSON."""
    if value is None:
        return None
    known = to_builtin(value)
    if not isinstance(known, Mapping):
        raise refusal(name, value, "None or a dict of fields of the request such as {'typical_p': 0.9}")
    for field, parameter in _READ_BY.items():
        if field in known:
            raise InvalidArgument(f"{name}[{field!r}]: give the parameter {parameter}=", argument=name)
    found: dict[str, Any] = plain(name, known)
    return found


def extra_inputs(name: str, value: Any) -> dict[str, Any] | None:
    """None or a dict of names of inputs and their values: text, True, False, numbers, or a list of those."""
    if value is None:
        return None
    allowed = "None or a dict of inputs and values, or lists of values, such as {'beam_width': 2}"
    known = to_builtin(value)
    if not isinstance(known, Mapping):
        raise refusal(name, value, allowed)
    found: dict[str, Any] = {
        key: plain(name, item if (items := listed(item)) is None else items, key)
        for key, item in known.items()
    }
    for key, item in found.items():
        values = item if isinstance(item, list) else [item]
        if (
            not isinstance(key, str)
            or not values
            or not all(isinstance(one, (str, int, float)) for one in values)
        ):
            raise refusal(f"{name}[{key!r}]", item, "a value, or a list of one or more values", name)
    return found


def with_extra_fields(
    body: Mapping[str, Any], extra: Mapping[str, Any], wires: Mapping[str, str], *path: str
) -> dict[str, Any]:
    """`body` with the fields `extra`; objects that both have are merged.

    Args:
        body: The body of a request.
        extra: The value of `extra_body`.
        wires: Field -> the parameter that it carries, for messages.
        path: Keys of the part of the body.

    Raises:
        InvalidArgument: The body has a field already.
    """
    merged = dict(body)
    for name, value in extra.items():
        given = body.get(name)
        if isinstance(given, Mapping) and isinstance(value, Mapping):
            merged[name] = with_extra_fields(given, value, wires, *path, name)
        elif name in body:
            where = "".join(f"[{key!r}]" for key in (*path, name))
            instead = f"; give the parameter {wires[name]}=" if name in wires else ""
            raise InvalidArgument(  # no value is shown: it may be secret
                f"extra_body{where}: the request has this field already{instead}", argument="extra_body"
            )
        else:
            merged[name] = value
    return merged
