"""An untrusted Jinja template ends within its limits, with an error that names the limit, in any thread."""

from __future__ import annotations

import threading
import time

import pytest

from lagent_llms.errors import TemplateError
from lagent_llms.templates import load_template

USER = [{"role": "user", "content": "hi"}]
SECONDS = 0.5
#: Other limits of an attack on one limit: so high that no machine reaches them first.
ROOM: dict[str, dict[str, float]] = {
    "seconds": {"memory": 10**12},
    **{limit: {"seconds": 60} for limit in ("output", "memory", "depth", "source")},
}
BIG = "{% set b = 'a' * 10000000 %}"
LOOP = "{% for i in range(60) %}"


def grown(name: str, first: str, step: str) -> str:
    """A template that sets ``name.x`` to `first` and then 60 times to `step`."""
    return f"{{% set {name} = namespace(x={first}) %}}{LOOP}{{% set {name}.x = {step} %}}{{% endfor %}}"


LISTS = grown("n", "['aaaa']", "[n.x, n.x]")
OTHERS = grown("m", "['aaaa']", "[m.x, m.x]")
TUPLES = grown("n", "'aaaa'", "(n.x, n.x)")

ATTACKS = {
    "output": [
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{% set x = [0] * 10**9 %}",
        "{{ (('a' * 10**4) * 10**4) * 10**4 }}",
        "{{ 2 ** (2 ** 40) }}",
        grown("n", "3", "n.x * n.x"),
        grown("n", "'a'", "n.x + n.x"),
        grown("n", "'a'", "n.x ~ n.x"),
        grown("n", "'a'", "'b' + n.x + n.x"),
        BIG + "{{ " + " ~ ".join(["b"] * 5000) + " }}",
        BIG + "{% for i in range(100000) %}{{ b }}{% endfor %}",
        BIG + "{% set x %}{% for i in range(100000) %}{{ b }}{% endfor %}{% endset %}",
        BIG + "{% filter indent(10) %}{% for i in range(100000) %}{{ b }}{% endfor %}{% endfilter %}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a' | center(1000000000) }}",
        "{{ 'a'.ljust(10**9) }}{{ 'a'.zfill(10**9) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=1000000000) }}",
        "{{ '{a:1000000000}'.format_map({'a': 1}) }}",
        "{{ ('{:1000000000}' | attr('format'))(1) }}",
        BIG + "{{ ('{0}' * 1000).format(b) }}",
        BIG + "{{ ('%(a)s' * 1000) % {'a': b} }}",
        "{{ ('\n' * 1000000) | indent(1000000) }}",
        "{{ ('\n' * 1000000) | indent('a' * 1000000) }}",
        BIG + "{{ b | replace('a', 'a' * 1000) }}",
        BIG + "{{ b.replace('', b) }}",
        BIG + "{{ ([b] * 100000) | join }}",
        BIG + "{{ b.join(['a'] * 100000) }}",
        BIG + "{{ b.translate({97: 'a' * 1000}) }}",
        "{{ ('\t' * 1000000).expandtabs(1000000) }}",
        "{{ {'a': [1]} | tojson(indent=10**9) }}",
        "{{ {'a': [1]} | tojson(indent='a' * 10000000) }}",
        "{{ range(100000) | list | tojson(separators=('a' * 1000000, '')) }}",
        "{{ ('<!---->' * 1000000) | striptags }}",
        BIG + "{{ b | urlize }}{{ b | wordwrap(1) }}",
        "{{ [1] | batch(10**9, 'x') | list }}",
        "{{ lipsum(n=10**9) }}",
        "{{ 1.5 | round(10**9, 'ceil') }}",
        "{{ (5).to_bytes(10**9, 'big') }}",
        "{{ 'a'.encode().center(10**9) }}",
        "{% autoescape 'a' | center(1000000000) %}{% endautoescape %}{{ 'a' | center(10**9) }}",
    ],
    "memory": [
        grown("n", "[1]", "n.x + n.x"),
        "{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = n.x + [i] %}{% endfor %}",
        BIG + "".join(f"{{% set a{i} = b ~ {i} %}}" for i in range(1000)),
        BIG + "".join(f"{{% set a{i} = b.upper() %}}" for i in range(1000)),
        BIG + "{% set l = [" + "b[1:]," * 5000 + "] %}",
        BIG + "{% for i in range(1000) %}{% set x = b.split('a') %}{% endfor %}",
        BIG + "{% for i in range(1000) %}{% set x = b | list %}{% endfor %}",
        BIG + "{% autoescape true %}{% for i in range(1000) %}{{ b ~ '<' }}{% endfor %}{% endautoescape %}",
        BIG + "{% for i in range(1000) %}{{ b | escape | length }}{% endfor %}",
    ],
    "seconds": [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{{ '' }}{% endfor %}{% endfor %}",
        "{% for z in range(100000) %}{% for a in range(100000) if a < 0 %}{% endfor %}{% endfor %}",
        "{% macro m(d) %}{% if d %}{{ m(d - 1) }}{{ m(d - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
        BIG + "{% set c = b ~ '' %}{% for i in range(100000) %}{% set x = b == c %}{% endfor %}",
        "{% for i in range(100000) %}{{ range(100000) | map('string') | join | length }}{% endfor %}",
        "{% set x = range(100000) | list %}{% for i in range(100000) %}{% set y = x | tojson %}{% endfor %}",
        BIG + "{{ b.rfind('b' + 'a' * 5000000) }}",
    ],
    "depth": [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set n = namespace() %}{% set n.x = n %}{{ n }}",
        grown("n", "()", "(n.x,)").replace("60", "9999") + "{{ {}[n.x] }}",
    ],
    "source": ["{{ 1 }}" * 100_000, "{{ 1 }}" + "a" * 10**7],
    "output|seconds": [  # a value that contains itself so often that its text would have no end
        LISTS + "{{ n.x }}",
        LISTS + "{{ n.x ~ '' }}",
        LISTS + "{{ n.x | string | length }}",
        LISTS + "{{ n.x | tojson }}",
        LISTS + "{{ '%s' % n.x }}",
        LISTS + "{{ [n.x] | join }}",
        LISTS + OTHERS + "{{ n.x == m.x }}",
        LISTS + OTHERS + "{{ n.x in [m.x] }}",
        LISTS + OTHERS + "{{ n.x is eq(m.x) }}",
        LISTS + OTHERS + "{{ [n.x, m.x] | sort }}",
        LISTS + OTHERS + "{{ [n.x].index(m.x) }}",
        LISTS + OTHERS + "{% for a in [n.x, m.x] %}{{ loop.changed(a) }}{% endfor %}",
        TUPLES + "{{ {n.x: 1} }}",
        TUPLES + "{{ {}.get(n.x) }}",
        TUPLES + "{{ {}[n.x] }}",
        grown("n", "1", "namespace(a=n.x, b=n.x)") + "{{ n }}",
    ],
}

NESTED = [
    "{{ " + "(" * 90_000 + "1" + ")" * 90_000 + " }}",
    "{{ " + "[" * 90_000 + "1" + "]" * 90_000 + " }}",
    "{{ " + "not " * 40_000 + "1 }}",
    "{{ a" + ".a" * 50_000 + " }}",
    "{{ a" + "|e" * 50_000 + " }}",
    "{{ 1" + " - 2" * 20_000 + " }}",
    "{% if 1 %}" * 9_000 + "{% endif %}" * 9_000,
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{% import 'a' as a %}",
    "{% include self %}",
    "{% extends 'a' %}",
]


def outcome(source: str, **limits: float) -> str:
    """The error of a template that is loaded and rendered in a thread of its own."""
    found = []
    limits = {"seconds": SECONDS, **limits}

    def render() -> None:
        before = time.thread_time()
        try:
            template = load_template({"path": source, "limits": limits})
            assert template is not None
            found.append(template.render(USER)[:50])
        except TemplateError as error:
            found.append(str(error))
        assert time.thread_time() - before < 20 * limits["seconds"]

    thread = threading.Thread(target=render)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("limit", "source"),
    [(limit, source) for limit, sources in ATTACKS.items() for source in sources],
    ids=lambda text: text[:60],
)
def test_limits(limit: str, source: str) -> None:
    error = outcome(source, **ROOM.get(limit, {}))
    assert any(f"the limit {name}=" in error for name in limit.split("|")), error
    assert "'limits': {" in error


@pytest.mark.parametrize("limit", ["output", "memory", "depth", "source"])
def test_default_limits(limit: str) -> None:
    with pytest.raises(TemplateError, match="the limit .* is exceeded"):
        load_template(ATTACKS[limit][0]).render(USER)


@pytest.mark.parametrize("source", NESTED, ids=lambda text: text[:30])
def test_nested_sources(source: str) -> None:
    error = outcome(source)
    assert error.startswith("Jinja template"), error


def test_limits_can_be_raised() -> None:
    source = "{% for i in range(2000) %}{{ 'a' * 10000 }}{% endfor %}"
    with pytest.raises(TemplateError, match="the limit output=16000000 is exceeded.*'limits': {'output': …}"):
        load_template(source).render(USER)
    template = load_template({"path": source, "limits": {"output": 10**8}})
    assert len(template.render(USER)) == 2 * 10**7
    with pytest.raises(TemplateError, match="unknown limit 'second', did you mean 'seconds'"):
        load_template({"path": source, "limits": {"second": 1}})
    with pytest.raises(TemplateError, match="seconds=0; allowed is a number above 0"):
        load_template({"path": source, "limits": {"seconds": 0}})


def test_a_render_after_one_that_failed() -> None:
    assert "the limit memory" in outcome(ATTACKS["memory"][0], **ROOM["memory"])
    assert load_template("{{ messages[0].content }}").render(USER) == "hi"
