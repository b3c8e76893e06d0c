"""Configuration files as they are found: of Windows editors, with repeated keys and odd names."""

import pytest

from lagent_llms import ConfigError, InvalidArgument, create_llm
from lagent_llms.config import load_config

SCRIPTED = "lagent_llms.testing.ScriptedLLM"
YAML = f"type: {SCRIPTED}\nscript: h\u00e9\n"
TOML = f'type = "{SCRIPTED}"\nscript = "h\u00e9"\n'


@pytest.fixture
def write(tmp_path):
    def write(data, name="llm.yaml"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return write


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("name", "text"), [("llm.yaml", YAML), ("llm.toml", TOML)])
def test_byte_order_marks_and_line_ends_of_windows(write, name, text, bom, end):
    assert create_llm(write(bom + text.replace("\n", end).encode(), name)).generate("x") == "h\u00e9"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize(("name", "text"), [("llm.yaml", YAML), ("llm.toml", TOML)])
def test_other_encodings_are_one_sentence(write, name, text, encoding):
    with pytest.raises(
        ConfigError, match=r"llm\.\w+(, line 2)?: is (UTF-16 or no|not UTF-8) text; save it as UTF-8"
    ) as caught:
        create_llm(write(text.encode(encoding), name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("llm.yaml", f"{YAML}script: ho\n", "llm.yaml, line 3: the key 'script' is given twice"),
        ("llm.yaml", f"{YAML}tools:\n- {{a: 1,\n   a: 2}}\n", "llm.yaml, line 5: the key 'a' is given twice"),
        ("llm.yaml", "profiles:\n  a: {type: x}\n  'a': {type: y}\n", "line 3: the key 'a' is given twice"),
        ("llm.toml", f'{TOML}script = "ho"\n', "'script' is given twice: Cannot overwrite a value (at line"),
        ("llm.toml", "[profiles.a]\n[profiles.a]\n", "the key '[profiles.a]' is given twice: "),
        ("llm.yaml", f"{YAML}\x07", "llm.yaml: unacceptable character #x0007"),
        ("llm.yaml", "a: " + "[" * 5000, "llm.yaml: is nested too deeply"),
        ("llm.yaml", "seed: 2024-13-45", "llm.yaml: a value cannot be read: month must be in 1..12"),
        ("llm.yaml", "seed: !!int x", "llm.yaml: a value cannot be read: invalid literal for int"),
        ("llm.toml", f"seed = {'9' * 5000}", "llm.toml: a value cannot be read: Exceeds the limit"),
        ("llm.toml", "a = " + "[" * 5000, "llm.toml: is nested too deeply"),
        ("llm.yaml", f"{YAML}tools: &a [*a]\n", "llm.yaml, line 3: contains an alias of itself"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_meant_are_one_sentence(write, name, text, message):
    with pytest.raises(ConfigError) as caught:
        create_llm(write(text, name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_anchors_and_merged_keys_may_be_overridden(write):
    base = f"&b {{type: {SCRIPTED}, script: hi}}"
    path = write(f"profiles:\n  a:\n    <<: {base}\n    script: ho\n  b: *b\n  c: {{<<: *b, script: ha}}\n")
    assert [create_llm(path, profile=name).generate("x") for name in "abc"] == ["ho", "hi", "ha"]


@pytest.mark.parametrize("name", ["1", "no", "on", "null", "1.5", "2026-01-02", "~", "a b", "\u00e9", "0x10"])
def test_profiles_have_the_names_that_are_written(write, name):
    path = write(f"profiles:\n  {name}: {{type: {SCRIPTED}, script: hi}}\n  other: {{type: x}}\n")
    assert create_llm(path, profile=name).generate("x") == "hi"
    if name not in ("null", "~"):
        path = write(f"default: {name}\n{path.read_text(encoding='utf-8')}")
        assert create_llm(path).generate("x") == "hi"
    with pytest.raises(ConfigError, match="no profile 'q'; there are .*, other"):
        create_llm(path, profile="q")


def test_profiles_of_a_dict_may_have_numbers_for_names(write):
    config = {"default": 2, "profiles": {1: {"type": "x"}, 2: {"type": SCRIPTED}}}
    assert create_llm(config).generate("x") == "ok"
    with pytest.raises(ConfigError, match="unknown backend 'x'"):
        create_llm(config, profile=1)
    with pytest.raises(ConfigError, match="say which profile: 1, 2"):
        create_llm({**config, "default": None})
    for wrong in (True, [1], {}):
        with pytest.raises(ConfigError, match="default=.*: allowed is the name of a profile"):
            create_llm({**config, "default": wrong})


def test_empty_variables(write, monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    text = "type: LMDeployClient\nurl: ${EMPTY:-http://a}\napi_key: ${EMPTY}\nsession_len: ${EMPTY}\n"
    llm = create_llm(write(text))
    assert (llm.session_len, llm.endpoints.urls) == (None, ("http://a",))
    with pytest.raises(InvalidArgument, match="llm.yaml: url='': allowed is"):
        create_llm(write("{type: LMDeployClient, url: '${EMPTY}'}"))
    with pytest.raises(ConfigError, match="unknown backend ''"):
        create_llm(write("type: ${EMPTY}"))


@pytest.mark.parametrize("blank", ["", "  "])
def test_blank_variables_of_this_library_are_not_set(monkeypatch, blank):
    monkeypatch.setenv("LAGENT_LLM_CONFIG", blank)
    monkeypatch.setenv("LAGENT_LLM_PROFILE", blank)
    assert load_config()[0] == {"type": "JAXPipeline", "temperature": 0}
    with pytest.raises(ConfigError, match="config: the path is empty"):
        load_config(blank)


def test_a_variable_may_name_the_type(write, monkeypatch):
    monkeypatch.setenv("KIND", SCRIPTED)
    assert create_llm(write("type: ${KIND}")).generate("x") == "ok"


@pytest.mark.parametrize("value", ["{", "@", "a: b: c"])
def test_a_variable_that_is_no_yaml_is_named(write, monkeypatch, value):
    monkeypatch.setenv("LEN", value)
    with pytest.raises(ConfigError, match=r"llm.yaml: session_len: the value of \$\{LEN\} is not YAML"):
        create_llm(write(f"{YAML}session_len: ${{LEN}}\n"))


@pytest.mark.parametrize(
    "path", ["a\0b.yaml", "~no_such_user_here/llm.yaml", "\ud83d.yaml", "x" * 5000 + ".yaml"]
)
def test_impossible_paths_are_one_sentence(path):
    with pytest.raises(ConfigError, match="cannot be read"):
        create_llm(path)
