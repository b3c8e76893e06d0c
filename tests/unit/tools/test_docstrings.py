"""Google-style docstrings, as functions have them in practice."""

import pytest

from lagent_llms.tools.docstrings import read_docstring, split_choices


def test_a_docstring_without_sections_is_the_description():
    assert read_docstring("Do it.\n\nWell.") == ("Do it.\n\nWell.", {}, None)
    assert read_docstring("") == ("", {}, None)


def test_a_docstring_may_begin_with_its_arguments():
    assert read_docstring("Args:\n    x: the number") == ("", {"x": "the number"}, None)


def test_descriptions_of_several_lines_are_joined():
    text = "Do.\n\nArgs:\n  x (int): first\n    second: not a name\n\n  *rest: others\n  **more: named\n"
    assert read_docstring(text).arguments == {
        "x": "first second: not a name",
        "rest": "others",
        "more": "named",
    }


def test_sections_end_where_the_next_begins():
    text = "Do.\n\nArgs:\n    x: a\nReturns:\n    The result:\n    two lines\nRaises:\n    ValueError: y"
    assert read_docstring(text) == ("Do.", {"x": "a"}, "The result:\n    two lines")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('A drink (choices: ["tea", " coffee", 3])', ("A drink", ["tea", "coffee", 3])),
        ("A drink", ("A drink", None)),
        ("A drink (choices: tea)", ("A drink (choices: tea)", None)),
        ('A drink (choices: {"a": 1})', ('A drink (choices: {"a": 1})', None)),
    ],
)
def test_choices(text, expected):
    assert split_choices(text) == expected
