"""A model's own Jinja template: the sandbox, model directories, and the comparison with a family."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lagent_llms.errors import MissingDependency, TemplateError
from lagent_llms.templates import check_template, load_template

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = [{"role": "user", "content": "hé"}]


def render(source: str, messages: Any = USER, **options: Any) -> str:
    template = load_template(source)
    assert template is not None
    return template.render(messages, **options)


def test_a_string() -> None:
    assert render(CHATML) == "<|im_start|>user\nhé<|im_end|>\n<|im_start|>assistant\n"
    assert render("{{ bos_token }}{{ x }}", bos_token="<s>", x=1) == "<s>1"


def test_the_environment_has_the_filters_and_functions_of_transformers() -> None:
    assert render("{{ messages | tojson }}") == '[{"role": "user", "content": "hé"}]'
    assert render("{{ '<' | tojson }} {{ {'a': 1} | tojson(indent=1) }}") == '"<" {\n "a": 1\n}'
    assert (
        render("{% for x in [1, 2, 3] %}\n  {% if x == 2 %}{% continue %}{% endif %}\n{{ x }}\n{% endfor %}")
        == "1\n3\n"
    )
    assert render("a{% generation %}b{% endgeneration %}c") == "abc"
    assert render("{% set n = namespace(i=1) %}{% set n.i = 2 %}{{ n.i }}{{ dict(a=1)['a'] }}") == "21"
    assert render("{{ strftime_now('%d %b %Y') }}", now=datetime(2025, 1, 15)) == "15 Jan 2025"
    assert render("{{ tools[0]['n'] if tools else 'none' }}", tools=[{"n": 1}]) == "1"
    assert render("{{ tools is none }}") == "True"


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ dict.__init__.__globals__ }}",
        "{% set n = namespace(_x=1) %}{{ n }}",
        "{{ raise_exception('roles must alternate') }}",
        "{{ undefined.attribute }}",
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_errors_of_the_sandbox_and_of_the_template(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source)


def test_templates_see_plain_data_and_messages_stay_unchanged() -> None:
    class Odd:
        def secret(self) -> str:
            return "secret"

    message = {"role": "user", "content": "x", "thing": Odd(), "thinking": "hm"}
    assert render("{{ messages[0].thing }}{{ messages[0].reasoning_content }}", [message]) == "<Odd>hm"
    with pytest.raises(TemplateError):
        render("{{ messages[0].thing.secret() }}", [message])
    assert set(message) == {"role", "content", "thing", "thinking"}


def test_keys_with_none_are_omitted_as_transformers_does() -> None:
    source = (
        "{% for m in messages %}{% if 'tool_calls' in m %}calls={{ m.tool_calls | length }}{% endif %}"
        "{{ m.role }}:{{ m.content }};{% endfor %}"
    )
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    dumped: list[dict[str, Any]] = [
        {"role": "assistant", "content": "b", "tool_calls": None, "refusal": None, "audio": None},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    assert render(source, dumped) == "assistant:b;calls=1assistant:;"
    assert dumped[0]["tool_calls"] is None


def test_a_message_without_content_has_none() -> None:
    refused = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    assert render("{{ messages[0].content is defined }}{{ messages[0].refusal }}", [refused]) == (
        "FalseI cannot help with that."
    )


PARTS = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
READS_PARTS = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}({{ p.text | trim }}){% endfor %}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (READS_PARTS, "(a)(b)"),
        ("{{ messages[0].content }}", "a b"),  # would be Python's notation of the list
        ("{{ messages[0].content | tojson }}", '"a b"'),
        ("{{ '<' + messages[0].content + '>' }}", "<a b>"),  # would be refused
        ("{% if messages[0].content is string %}{{ messages[0].content }}{% endif %}!", "a b!"),  # omitted
    ],
)
def test_text_parts_are_given_to_templates_that_read_them(source: str, expected: str) -> None:
    message = {"role": "user", "content": PARTS}
    assert render(source, [message]) == expected
    assert message["content"] is PARTS
    assert render(source, [{"role": "user", "content": ["a ", PARTS[1]]}]) == expected.replace(
        "(a)(b)", "a b"
    )


def test_the_last_part_of_a_message_is_continued() -> None:
    said = [*USER, {"role": "assistant", "content": PARTS}]
    assert render(READS_PARTS + "!", said, continue_final_message=True) == "hé(a)(b"
    assert render("{{ messages[1].content }}!", said, continue_final_message=True) == "a b"
    with pytest.raises(TemplateError, match="no content to continue"):
        render(CHATML, [*USER, {"role": "assistant", "content": None}], continue_final_message=True)


def test_arguments_of_tool_calls_are_decoded_once() -> None:
    source = "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }}{% endfor %}"

    def rendered(arguments: object) -> str:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return render(source, [{"role": "assistant", "content": None, "tool_calls": [call]}])

    assert rendered('{"city": "巴黎"}') == rendered({"city": "巴黎"}) == '{"city": "巴黎"}'
    for no_object in ("", "[1]", "3", "not JSON", "[" * 9000):
        assert rendered(no_object) == json.dumps(no_object)
    assert (
        render(
            "{{ messages[0].tool_calls[0].arguments.a }}",
            [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": '{"a": 1}'}]}],
        )
        == "1"
    )


def calling(arguments: object, content: str | None = None) -> list[dict[str, Any]]:
    """A dialog with a call."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [*USER, {"role": "assistant", "content": content, "tool_calls": [call]}]


@pytest.mark.parametrize(
    "write", ["{{ 'f ' + A + '!' }}", "{{ 'f ' ~ A ~ '!' }}", "f {{ A }}!", "f {{ A | string }}!"]
)
def test_arguments_that_a_template_writes_as_text_are_json(write: str) -> None:
    source = (
        "{% for c in messages[1].tool_calls %}" + write.replace("A", "c.function.arguments") + "{% endfor %}"
    )
    assert render(source, calling({"x": "é", "y": None})) == 'f {"x": "é", "y": null}!'
    assert render(source, calling('{"x":"é"}')) == 'f {"x":"é"}!'  # as the model wrote it


@pytest.mark.parametrize(
    "template",
    [
        "{% if m.content is none %}call {% else %}{{ m.content + '' }}{% endif %}",
        "{% if '</think>' in m.content %}!{% endif %}{{ m.content + 'call ' }}",
    ],
)
def test_a_call_without_content_for_a_template_that_needs_one(template: str) -> None:
    source = "{% set m = messages[1] %}" + template + "{{ m.tool_calls[0].function.name }}"
    assert render(source, calling({})) == "call f"
    with pytest.raises(TemplateError, match="has no attribute 'content'"):
        render(source, [*USER, {"role": "assistant", "content": None}])
    for loses_calls in ("{{ m.content + '' }}", "{% if m.tool_calls %}{{ m.content + '' }}{% endif %}"):
        with pytest.raises(TemplateError, match="has no attribute 'content'"):
            render("{% set m = messages[1] %}" + loses_calls, calling({}))
    with pytest.raises(TemplateError, match="no calls!"):
        render("{{ raise_exception('no calls!') }}", calling({}))


def test_broken_jinja_names_the_line() -> None:
    with pytest.raises(TemplateError, match="line 2: no valid Jinja"):
        load_template("a\n{% if %}")


def test_continue_final_message() -> None:
    said = [*USER, {"role": "assistant", "content": "so far "}]
    assert render(CHATML, said, continue_final_message=True).endswith("<|im_start|>assistant\nso far ")
    stripping = CHATML.replace("message['content']", "message['content'] | trim")
    assert render(stripping, said, continue_final_message=True).endswith("so far")
    with pytest.raises(TemplateError, match="cannot be continued"):
        render("{{ messages[0].content }}", said, continue_final_message=True)


def test_a_misspelled_variable_is_refused_and_others_are_ignored() -> None:
    source = "{{ 1 if enable_thinking else 0 }}{% set local = 1 %}"
    assert render(source, enable_thinking=True) == "1"
    assert render(source, documents=[], thinking=True, unknown=1) == "0"
    with pytest.raises(TemplateError, match="reads no 'enable_thinkng', did you mean 'enable_thinking'"):
        render(source, enable_thinkng=True)


def test_without_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingDependency, match="jinja2 is not installed; run: pip install"):
        load_template(CHATML + "{# another text #}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory with a template in its tokenizer_config.json."""
    config = {
        "bos_token": {"content": "<s>"},
        "eos_token": "<|im_end|>",
        "pad_token": None,
        "add_bos_token": True,
        "added_tokens_decoder": {"7": {"content": "<|end|>"}, "8": {"content": "<|im_end|>"}},
        "chat_template": CHATML,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 8]}', encoding="utf-8")
    return tmp_path


def test_a_model_directory(model: Path) -> None:
    for path in (model, str(model), model / "tokenizer_config.json"):
        template = load_template(path)
        assert template is not None
        assert template.render(USER) == render(CHATML)
        assert template.stop_words == ("<|im_end|>", "<|end|>")
        assert (template.bos, template.bos_by, template.adds_bos) == ("<s>", "server", False)
        with pytest.raises(TemplateError, match="a special token"):
            template.guarded("refuse").render([{"role": "user", "content": "<|im_start|>"}])


def test_a_template_file_comes_first(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ bos_token }}file", encoding="utf-8")
    more = model / "additional_chat_templates"
    more.mkdir()
    (more / "tool_use.jinja").write_text("{{ tools | length }} tools", encoding="utf-8")
    template = load_template(model)
    assert template is not None
    assert template.render(USER) == "<s>file"
    assert template.render(USER, tools=[{}, {}]) == "2 tools"
    assert template.adds_bos
    beside = load_template(model / "chat_template.jinja")
    assert beside is not None
    assert beside.render(USER) == "<s>file"


def test_named_templates_and_bad_directories(model: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    template = load_template(model)
    assert template is not None
    assert (template.render(USER), template.render(USER, tools=[{}])) == ("d", "t")
    file.write_text(json.dumps({"chat_template": named[1:]}), encoding="utf-8")
    with pytest.raises(TemplateError, match="no template named 'default'"):
        load_template(model)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(TemplateError, match="no valid JSON"):
        load_template(model)
    with pytest.raises(TemplateError, match="the model has no chat template"):
        load_template(tmp_path_factory.mktemp("empty"))


def test_check_finds_no_drift(model: Path) -> None:
    report = check_template(model, "chatml", n=50)
    assert report.ok
    assert (report.equal, report.different, report.first) == (50, 0, None)


def test_check_shows_the_first_difference(model: Path) -> None:
    report = check_template(model, "qwen2", n=50)
    assert not report.ok
    assert report.first is not None
    assert report.first.position == len("<|im_start|>")
    text = str(report)
    assert "first difference at character 12" in text
    assert '{"role": "user"' in text
    assert "system\\nYou are a helpful" in text
    refusing = check_template(model, "mistral-v0.1", n=50)
    assert refusing.first is not None
    assert check_template(model, "chatml", n=20, seed=3) == check_template(model, "chatml", n=20, seed=3)


def test_importing_templates_loads_neither_yaml_nor_jinja2() -> None:
    import subprocess

    code = "import sys, lagent_llms.templates; print([m for m in ('yaml', 'jinja2') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
