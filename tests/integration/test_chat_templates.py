"""The comparison of chat templates with transformers, on files that these tests write."""

import json

import pytest

from benchmarks.chat_templates.__main__ import main
from benchmarks.chat_templates.compare import Result, compare
from benchmarks.chat_templates.dialogs import DIALOGS
from benchmarks.chat_templates.sources import find_sources

SAY = "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content }}{{ eos_token }}\n{% endfor %}"
PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content or [] %}({{ p.text | trim }}){% endfor %}{% endif %}{% endfor %}"
)
CALLS = (
    "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}{{ tools | tojson }}"
)


@pytest.fixture
def folder(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    write("lone/say.jinja", SAY)
    write("lone/parts.jinja", PARTS)
    write("lone/strict.jinja", "{{ raise_exception('no') }}")
    write("lone/broken.jinja", "{% if %}")
    write("lone/notes.json", "{")
    write("model/tokenizer_config.json", {"bos_token": "<b>", "eos_token": {"content": "<e>"}})
    write("model/chat_template.jinja", SAY)
    write("model/additional_chat_templates/tool_use.jinja", CALLS)
    write("processor/chat_template.json", {"chat_template": SAY})
    write("plain/tokenizer_config.json", {"eos_token": "<e>"})
    named = [{"name": "default", "template": SAY}, {"name": "rag", "template": CALLS}]
    write("families.json", [{"model_name": "one", "chat_template": named}, {"chat_template": "one"}])
    write("configs.json", {"org/two": {"chat_template": SAY, "bos_token": None, "eos_token": "<e>"}})
    return tmp_path


def test_templates_are_found_and_compared(folder, capsys):
    sources = {source.name: source for source in find_sources(folder)}
    lone = ["lone/broken.jinja", "lone/parts.jinja", "lone/say.jinja", "lone/strict.jinja"]
    models = ["configs.json org/two", "families.json one", "model", "plain", "processor"]
    assert sorted(sources) == sorted([*lone, *models])
    results = {name: compare(source, DIALOGS) for name, source in sources.items()}
    assert (count := len(DIALOGS)) >= 40
    for name, result in results.items():
        assert not result.failed, (name, result.differences)
        if not result.not_loaded:  # named templates: what the model chooses, and each by name
            assert result.counts.total() == count * (3 if name in ("model", "families.json one") else 1)
    assert results["lone/say.jinja"].counts == {"equal": count}
    assert results["lone/strict.jinja"].counts == {"refused alike": count}
    for name in ("lone/broken.jinja", "plain"):
        assert sorted(results[name].not_loaded) == ["lagent_llms", "transformers"]
    assert main([str(folder / "lone"), str(folder / "model")]) == 0
    assert "| lone | 4 |" in (printed := capsys.readouterr().out)
    assert "| total | 5 |" in printed
    assert "| 0 | 0 |" in printed.splitlines()[-1]


def test_a_difference_is_shown_and_fails(tmp_path, capsys):
    (tmp_path / "clock.jinja").write_text("It is {{ strftime_now('%H%M%S.%f') }}", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert " different\n    one question\n" in printed
    assert "lagent_llms:  [0:] 'It is " in printed
    assert Result(not_loaded={"lagent_llms": "TemplateError"}).failed
    assert not Result(not_loaded={"transformers": "ValueError"}).failed
