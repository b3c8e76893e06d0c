"""Filters and tests that a Jinja template may call, counted before they make something large."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from typing import Any

from .limits import SMALL, Budget, LimitExceeded
from .sandbox_methods import SHORT_TEXT, bounded, count_replace, percent

__all__ = ["counted_filters", "counted_tests"]

#: Filters that get short texts only.
_SLOW_FILTERS = frozenset(
    ("striptags", "urlize", "urlencode", "wordwrap", "xmlattr", "pprint", "int", "float", "filesizeformat")
)
#: Filters whose results are not larger than their arguments, and that neither compare nor convert these.
_PLAIN_FILTERS = frozenset(("default", "d", "first", "last", "length", "count", "abs", "safe", "attr"))
#: Filters that look at one element at a time, when it is asked for.
_LAZY_FILTERS = frozenset(("map", "select", "reject", "selectattr", "rejectattr", "items"))
_COMPARING_TESTS = frozenset(
    (
        *("eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">"),
        *("ge", ">=", "in", "lower", "upper"),
    )
)
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_SCALARS = (int, float, bool, type(None))


def counted_filters(
    budget: Budget, filters: Mapping[str, Callable[..., Any]]
) -> dict[str, Callable[..., Any]]:
    """`filters` (jinja2's), each counted."""
    own = {"trim": partial(_trim, budget), "tojson": partial(_tojson, budget)}
    special = {
        "replace": _filter_replace,
        "indent": _filter_indent,
        "join": _filter_join,
        "format": _filter_format,
        "list": _filter_list,
    }
    counted: dict[str, Callable[..., Any]] = {}
    for name, function in filters.items():
        if name in own:
            counted[name] = own[name]
        elif name in _PLAIN_FILTERS:
            counted[name] = function
        elif name in _LAZY_FILTERS:
            counted[name] = _lazy(budget, function)
        else:
            longest = SHORT_TEXT if name in _SLOW_FILTERS else None
            counted[name] = _counted(budget, function, special.get(name), longest)
    return counted


def counted_tests(budget: Budget, tests: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """`tests` (jinja2's); those that compare are counted."""
    return {
        name: _counted(budget, test, None, None) if name in _COMPARING_TESTS else test
        for name, test in tests.items()
    }


def _first(function: Callable[..., Any]) -> int:
    """Position of the value in the arguments of a filter: after what it takes from the environment."""
    return 1 if hasattr(function, "jinja_pass_arg") else 0


def _lazy(budget: Budget, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        return budget.steps(function(*args, **kwargs), 8)

    return counted


def _counted(
    budget: Budget,
    function: Callable[..., Any],
    before: Callable[[Budget, list[Any], Mapping[str, Any]], None] | None,
    longest: int | None,
) -> Callable[..., Any]:
    """Wrap a filter or a test.

    Args:
        budget: Counts.
        function: The filter.
        before: Counts what the filter is about to make, from the value and the other arguments.
        longest: Longest text that it may have.
    """
    first = _first(function)

    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        given, weight = [budget.listed(arg) if isinstance(arg, Iterator) else arg for arg in args[first:]], 0
        for position, argument in enumerate((*given, *kwargs.values())):
            if isinstance(argument, str):
                weight += len(argument)
            elif not isinstance(argument, _SCALARS):
                weight += budget.weigh(argument)
            elif position:
                bounded(argument)
        if longest is not None and weight > longest:
            raise LimitExceeded("output", f"gives a filter more than {longest} characters")
        if before is not None:
            before(budget, given, kwargs)
        elif weight >= SMALL:
            budget.text(weight)
        result = function(*args[:first], *given, **kwargs)
        if isinstance(result, str):
            budget.text(len(result))
        elif isinstance(result, (list, tuple, dict)):
            budget.entries(len(result))
        elif isinstance(result, Iterator):
            return budget.steps(result)
        return result

    return counted


def _filter_replace(budget: Budget, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    old, new = (*given[1:], kwargs.get("old", ""), kwargs.get("new", ""))[:2]
    count_replace(budget, str(given[0]), (str(old), str(new)), {})


def _filter_indent(budget: Budget, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    width = given[1] if len(given) > 1 else kwargs.get("width", 4)
    text, length = str(given[0]), len(width) if isinstance(width, str) else bounded(width)
    budget.text(len(text) + (len(text.splitlines()) + 1) * length)


def _filter_join(budget: Budget, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    separator = str(given[1] if len(given) > 1 else kwargs.get("d", ""))
    if hasattr(given[0], "__len__"):
        budget.text(budget.weigh(given[0]) + len(given[0]) * len(separator))


def _filter_list(budget: Budget, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    if hasattr(given[0], "__len__"):
        budget.memory(64 * len(given[0]))  # each character becomes a string


def _filter_format(budget: Budget, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    percent(budget, str(given[0]), dict(kwargs) or tuple(given[1:]))


def _trim(budget: Budget, value: Any, chars: str | None = None) -> str:
    """Remove white space (or `chars`) on both sides."""
    if not isinstance(value, str):
        budget.weigh(value)
        value = str(value)
    if len(value) >= SMALL:
        budget.text(len(value))
    return value.strip(chars)  # type: ignore[no-any-return]


def _tojson(
    budget: Budget,
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja2's HTML escapes."""
    weight = budget.weigh(value)
    if indent is None and separators is None and not ensure_ascii and not sort_keys:
        text = _ENCODER.encode(value)
        budget.text(len(text))
        return text
    around = len(indent) if isinstance(indent, str) else bounded(indent)
    around += sum(len(item) for item in separators or () if isinstance(item, str))
    budget.text(weight + (weight // 8) * around)  # of most values, an entry is 8 of their weight or more
    text = json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    budget.text(len(text))
    return text
