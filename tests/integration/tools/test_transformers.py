"""Tool descriptions made from functions equal those of transformers, for what transformers supports."""

import enum
from typing import Any, Literal

import pytest
from transformers.utils import get_json_schema

from lagent_llms.tools.function_schema import function_tool


class Unit(enum.Enum):
    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Weather:
    def forecast(self, city: str, days: int = 3) -> list[str]:
        """Forecast the weather.

        Args:
            city: The city, for example "Paris".
            days: How many days.

        Returns:
            One line a day.
        """

    @classmethod
    def units(cls, of: str) -> dict[str, Any]:
        """Units.

        Args:
            of: What.
        """


def simple(x: float, y: float):
    """Multiply two numbers.

    Args:
        x: The first number.
        y: The second number.
    """


def everything(
    a: int,
    b: str,
    c: bool,
    d: list,
    e: list[int],
    f: dict,
    g: dict[str, float],
    h: tuple[int, str],
    i: int | None,
    j: int | str,
    k: int | None,
    m: Literal["x", "y"],
    n: Literal[1, "z", None],
    o: Unit,
    p: Any,
    q: list[dict[str, int | None]],
    r: list[int] | str | None,
    s: Literal["u"] = "u",
    t: float = 1.0,
) -> dict[str, int] | None:
    """Do everything: with Args in the text.

    More text in a second paragraph,
      indented.

    Args:
        a (int): With a type.
        b: Over
            several lines
            of text.
        c (bool, optional): With: a colon
        d: A list (choices: ["tea", " coffee"])
        e:
            On the next line.

        f: After a blank line.
        g: `key: value` pairs
        h: h
        i: i
        j: j
        k: k
        m: m
        n: n
        o: o
        p: p
        q: q
        r: r
        s: s
        t: t

    Returns:
        A result
        of two lines.

    Raises:
        ValueError: Never.
    """


def without_parameters() -> str:
    """The time."""


def only_returns() -> None:
    """Nothing.

    Returns: nothing
    """


def raises_first(x: int):
    """Fail.

    Args:
        x: A number.
    Raises:
        ValueError: Always.
    """


def unusual_result(x: int) -> Weather:
    """Return an object.

    Args:
        x: A number.
    """


async def asynchronous(x: int) -> int:
    """Wait.

    Args:
        x: Seconds.
    """


FUNCTIONS = [
    simple,
    everything,
    without_parameters,
    only_returns,
    raises_first,
    unusual_result,
    asynchronous,
    Weather.forecast,
    Weather().forecast,
    Weather.units,
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_a_function_has_the_schema_of_transformers(function):
    assert function_tool(function) == get_json_schema(function)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__qualname__)
def test_the_keys_have_the_same_order(function):
    assert str(function_tool(function)) == str(get_json_schema(function))
