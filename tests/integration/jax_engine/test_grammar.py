"""Grammars of the four checked forms follow an answer token by token; what cannot be compiled is named."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import lagent_llms
from lagent_llms.errors import InvalidArgument, MissingDependency
from lagent_llms.structured.formats import response_format
from lagent_llms.structured.grammar import GrammarCompiler

FILE = Path(lagent_llms.__file__).parent / "models/embedded/tokenizer.json"
TOKENIZER = Tokenizer.from_file(str(FILE))
VOCAB, ENDS = TOKENIZER.get_vocab_size(with_added_tokens=True), frozenset({2, 4})
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def compiler():
    return GrammarCompiler(FILE.read_text, VOCAB, ENDS)


def ids(text):
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def allowed(grammar, *, may_end=True):
    mask = np.zeros(-(-VOCAB // 32), np.int32)
    grammar.fill_mask(mask, may_end=may_end)
    return set(np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist())


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        ({"type": "json_object"}, '{"a": [1, null]}', "[1]"),
        (PERSON, '{"name": "Zoë", "age": 3}', '{"name": 5'),
        (PERSON, '{"name": "x", "age": -12}', '{"name": "x", "job"'),
        (re.compile(r"[XZ]\d{2}/\n?"), "Z17/", "Z1x"),
        (["a|b", "a.c", "+"], "a.c", "abc"),
        ({"enum": [17, True]}, "true", "false"),
    ],
)
def test_the_four_forms(compiler, constraint, good, bad):
    checked = response_format("response_format", constraint)
    grammar = compiler.compile(checked)
    tokens = ids(good)
    assert grammar.accept(tokens) == len(tokens)
    if not grammar.is_complete:
        assert allowed(grammar) >= ENDS
        assert not allowed(grammar, may_end=False) & ENDS
        assert grammar.accept([2, tokens[0]]) == 1  # the end token, and nothing after it
    assert grammar.is_complete

    other = compiler.compile(checked)  # a state of its own
    assert other.accept(ids(bad)) < len(ids(bad))
    assert not other.is_complete


def test_the_mask_is_what_may_be_accepted(compiler):
    checked = response_format("response_format", PERSON)
    start = ids('{"name": "')
    grammar = compiler.compile(checked)
    assert grammar.accept(start) == len(start)
    inside = allowed(grammar)
    assert inside
    assert inside.isdisjoint(ENDS)
    for token in range(VOCAB):
        attempt = compiler.compile(checked)
        attempt.accept(start)
        assert attempt.accept([token]) == (token in inside), token


def test_forced_text_ends_at_the_limit_and_where_a_choice_begins(compiler):
    grammar = compiler.compile(response_format("response_format", PERSON))
    first = grammar.accept_forced(1)
    assert len(first) == 1
    rest = grammar.accept_forced(100)
    assert TOKENIZER.decode(first + rest, skip_special_tokens=False).startswith('{"name": ')
    assert grammar.accept_forced(100) == []
    whole = compiler.compile(response_format("response_format", ["only this"]))
    assert TOKENIZER.decode(whole.accept_forced(100)) == "only this"
    assert whole.is_complete


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (re.compile(r"(?=a)b"), "look-around"),
        (re.compile(r"(a)\1"), "backreferences"),
        ({"type": "object", "not": {}}, '"not"'),
        ({"enum": []}, "enum"),
        ({"$ref": "https://example.org/schema"}, "ref"),
        ({"type": "structural_tag"}, "'structural_tag' is not supported"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(compiler, constraint, reason):
    with pytest.raises(InvalidArgument, match="response_format") as caught:
        compiler.compile(response_format("response_format", constraint))
    assert caught.value.argument == "response_format"
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_threads_compile_at_the_same_time(compiler):
    results, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        for width in range(1, 45):  # more than are kept
            grammar = compiler.compile(response_format("f", re.compile(f"a{{{width}}}")))
            forced = grammar.accept_forced(100)
            results.append(TOKENIZER.decode(forced) == "a" * width and grammar.is_complete)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4 * 44


def test_without_llguidance_the_extra_is_named(compiler, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(MissingDependency, match=r"pip install 'lagent_llms\[jax\]'"):
        compiler.compile({"type": "json_object"})
