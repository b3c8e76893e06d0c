"""Grammars from regular expressions; tests/integration/openai compares what llama.cpp generates from them."""

import pytest

from lagent_llms.backends.openai.gbnf import choice_grammar, regex_grammar


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("ab", '"a" "b"'),
        (r"^\d{4}-\d{2}$", r'[0-9]{4} "\x2D" [0-9]{2}'),
        ("(yes|no)?", '( "y" "e" "s" | "n" "o" )?'),
        ("(?:a)(?P<n>b)(?<m>c)", '( "a" ) ( "b" ) ( "c" )'),
        ("a*b+c??d{,3}e{2,}f{0}", '"a"* "b"+ "c"? "d"{0,3} "e"{2,} "f"{0}'),
        ("a||", '"a" | "" | ""'),
        ("[-a-z\\]_-]", r"[\x2Da-z\x5D\x5F\x2D]"),
        ("[]a]", r"[\x5Da]"),
        (r"[^\s\d.]", r"[^ \t\n\r\x0B\x0C0-9\x2E]"),
        (r"\W\S\D", r"[^0-9A-Za-z_] [^ \t\n\r\x0B\x0C] [^0-9]"),
        (r"\n\x41\u732b[\b]\$", r'"\x0A" "A" "猫" [\x08] "\x24"'),
        ('.猫"', r'[^\n] "猫" "\x22"'),
        ("a{x}{}", r'"a" "\x7B" "x" "\x7D" "\x7B" "\x7D"'),
    ],
)
def test_a_regular_expression_is_a_rule(pattern, rule):
    assert regex_grammar(pattern) == f"root ::= {rule}"


def test_a_choice_is_a_rule():
    assert choice_grammar(['say "a"', "b\nc"]) == r'root ::= "say \x22a\x22" | "b\x0Ac"'


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)", "(?!a)", "(?<=a)b", "(?i)a", r"(a)\1", r"\bword", r"\Aa", "a$b", "a^b", "*a", "(*a)", "a**",
        "a*+", "(a", "a)", "[a", "[]", r"[\D]", r"[a-\d]", "a\\", r"\xZZ", r"\x4", r"\U00110000", r"\p{L}",
    ],
)  # fmt: skip
def test_what_no_grammar_has_is_refused(pattern):
    with pytest.raises(ValueError, match="at |backslash|missing|bad|multiple"):
        regex_grammar(pattern)
