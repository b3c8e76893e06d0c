import pytest

from lagent_llms import AsyncFallbackLLM, FallbackLLM, create_llm
from lagent_llms.config import EMBEDDED, check_config, load_config
from lagent_llms.errors import ConfigError, InvalidArgument
from lagent_llms.testing import AsyncScriptedLLM, ScriptedLLM

SCRIPTED = "lagent_llms.testing.ScriptedLLM"


@pytest.fixture
def write(tmp_path):
    def write(text, name="llm.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_yaml_file(write):
    llm = create_llm(write(f"type: {SCRIPTED}\nscript: hello\ntemperature: 0\nstop_words: ['<|im_end|>']\n"))
    assert (llm.generate("x"), llm.params.temperature, llm.params.stop_words) == ("hello", 0, ("<|im_end|>",))


def test_toml_file(write):
    llm = create_llm(write(f'type = "{SCRIPTED}"\nscript = "hello"\n', "llm.toml"))
    assert llm.generate("x") == "hello"


def test_dict_with_a_class_as_lagent_writes_it():
    assert isinstance(create_llm(dict(type=ScriptedLLM, max_new_tokens=8192)), ScriptedLLM)


def test_the_callers_dict_is_not_changed():
    config = {"type": SCRIPTED, "script": "a"}
    create_llm(config, script="b")
    assert config == {"type": SCRIPTED, "script": "a"}


async def test_asynchronous_creates_the_asynchronous_class():
    for kind in (SCRIPTED, ScriptedLLM, AsyncScriptedLLM):
        llm = create_llm({"type": kind, "script": "hello"}, asynchronous=True)
        assert isinstance(llm, AsyncScriptedLLM)
        assert await llm.generate("x") == "hello"


PROFILES = f"""
default: one
profiles:
  one: {{type: {SCRIPTED}, script: first}}
  two: {{type: {SCRIPTED}, script: second}}
"""


def test_profiles(write, monkeypatch):
    path = write(PROFILES)
    assert create_llm(path).generate("x") == "first"
    assert create_llm(path, profile="two").generate("x") == "second"
    monkeypatch.setenv("LAGENT_LLM_PROFILE", "two")
    assert create_llm(path).generate("x") == "second"
    with pytest.raises(ConfigError, match=r"no profile 'twoo', did you mean 'two'\?; there are one, two"):
        create_llm(path, profile="twoo")


def test_a_profile_without_a_configuration_is_an_error(monkeypatch):
    monkeypatch.delenv("LAGENT_LLM_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="profile 'mine' was asked for, but there is no configuration file"):
        create_llm(profile="mine")


def test_several_profiles_without_a_default_are_an_error(write):
    with pytest.raises(ConfigError, match="say which profile: one, two"):
        create_llm(write(PROFILES.replace("default: one\n", "")))


def test_the_file_named_by_the_environment(write, monkeypatch):
    monkeypatch.setenv("LAGENT_LLM_CONFIG", str(write(f"type: {SCRIPTED}\nscript: from the environment\n")))
    assert create_llm().generate("x") == "from the environment"


def test_the_default_is_the_embedded_model(monkeypatch):
    monkeypatch.delenv("LAGENT_LLM_CONFIG", raising=False)
    settings, _ = load_config()
    assert settings == dict(EMBEDDED)
    assert (settings["type"], settings["temperature"]) == ("JAXPipeline", 0)


def test_values_from_the_environment(write, monkeypatch):
    monkeypatch.setenv("SAY", "hi")
    monkeypatch.setenv("LEN", "99")
    path = write(
        f"type: {SCRIPTED}\nscript: '${{SAY}} ${{WHO:-you}}'\nsession_len: ${{LEN}}\n"
        "max_new_tokens: ${N:-7}\nstop_words: ['${SAY}!']\n"
    )
    llm = create_llm(path)
    assert (llm.generate("x"), llm.session_len, llm.params.max_new_tokens) == ("hi you", 99, 7)
    assert llm.params.stop_words == ("hi!",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"type: {SCRIPTED}\nscript: ${{NOT_SET_ANYWHERE}}\n",
            "script: the environment variable NOT_SET_ANYWHERE is not set",
        ),
        ("script: x\n", "'type' is missing"),
        ("a: b: c\n", "line 1, column 5"),
        (f"type: {SCRIPTED}\nscript: [1,\n", "line 3"),
        ("- a\n- b\n", "expected keys and values, got list"),
        ("", "expected keys and values, got NoneType"),
        (
            f"type: {SCRIPTED}\ntemprature: 1\n",
            "unknown key 'temprature' for ScriptedLLM, did you mean 'temperature'?",
        ),
        (f"type: {SCRIPTED}\nscrpt: 1\n", "did you mean 'script'?"),
        ("type: JAXPipelin\n", "unknown backend 'JAXPipelin', did you mean 'JAXPipeline'?"),
        ("type: lagent_llms.testing.Nothing\n", "has no 'Nothing'"),
        ("type: no_such_package.Nothing\n", "there is no module 'no_such_package'"),
        ("type: collections.OrderedDict\n", "is no backend"),
        ("type: 5\n", "type=5 is no backend"),
        ("type: ..Nothing\n", "unknown backend '..Nothing'"),
        ("type: ':'\n", "unknown backend ':'"),
        (f"type: {SCRIPTED}\n1: 2\n", "a key is a name, got 1"),
        ("type: LMDeployClient\n", "'url' is missing: LMDeployClient needs it"),
        ("profiles: {}\n", "'profiles' holds no named configurations"),
        ("profiles: {a: 1}\n", "profile 'a' holds no keys and values"),
        ("profiles: {a: {type: x}}\nurl: y\n", "beside 'profiles' only 'default' is allowed, found ['url']"),
    ],
)
def test_errors_of_bad_files_name_the_file_and_the_problem(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        create_llm(path)
    assert message in str(caught.value)


def test_errors_name_the_file(write, tmp_path):
    path = write("a: b: c\n")
    with pytest.raises(ConfigError, match="llm.yaml, line 1"):
        create_llm(path)
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        create_llm(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"ends in \.yaml, \.yml or \.toml"):
        create_llm(write("{}", "llm.json"))
    with pytest.raises(ConfigError, match="llm.toml"):
        create_llm(write("type = ", "llm.toml"))
    with pytest.raises(InvalidArgument, match=r"llm.yaml: temperature='hot': allowed is a number") as caught:
        create_llm(write(f"type: {SCRIPTED}\ntemperature: hot\n"))
    assert caught.value.argument == "temperature"
    with pytest.raises(InvalidArgument, match="^temperature=-1: allowed"):
        create_llm(write(f"type: {SCRIPTED}\n"), temperature=-1)


@pytest.mark.parametrize("config", [5, ["a"], b"llm.yaml"])
def test_a_configuration_is_a_path_or_a_dict(config):
    with pytest.raises(ConfigError, match="config: expected a path, a dict or None, got"):
        create_llm(config)


def test_a_value_from_a_file(write, tmp_path, monkeypatch):
    secret = write("sk-\N{LATIN SMALL LETTER E WITH ACUTE}\n", "key")
    monkeypatch.setenv("SECRETS", str(tmp_path))
    for value in (f"file:{secret}", "file:${SECRETS}/key"):
        assert create_llm({"type": SCRIPTED, "script": value}).generate("x") == "sk-é"
    nested = create_llm(
        {"type": "LMDeployClient", "url": "http://h", "headers": {"X-Key": "file:${SECRETS}/key"}}
    )
    assert "sk-é" in nested.secrets()
    llm = create_llm(
        {"type": SCRIPTED, "stop_words": ["file:x"]}, request_id="file:y"
    )  # no secrets: parameters
    assert (llm.params.stop_words, llm.options.request_id) == (("file:x",), "file:y")


def test_a_file_that_cannot_be_a_value(write, tmp_path):
    def refused(path):
        with pytest.raises((ConfigError, InvalidArgument)) as caught:
            create_llm({"type": "LMDeployClient", "url": "http://h", "api_key": f"file:{path}"})
        assert "secret" not in f"{caught.value} {caught.value.__cause__}"
        return str(caught.value)

    where = "configuration: api_key"
    gone = tmp_path / "gone"
    assert refused(gone) == f"{where}: {gone}: cannot be read: No such file or directory"
    assert "cannot be read: Is a directory" in refused(tmp_path)
    assert refused(write("\n", "empty")).endswith("empty: is empty")
    (tmp_path / "binary").write_bytes(b"secret\xff")
    assert refused(tmp_path / "binary").endswith("binary: is not UTF-8 text")
    assert "it has more than 65536 bytes" in refused(write("secret" * 20000, "long"))
    assert refused(write("secret ", "spaces")).endswith("begins or ends with white space; strip it")


MEMBERS = f"""
default: both
profiles:
  one: {{type: {SCRIPTED}, script: ['${{SAY}}'], session_len: '${{LEN}}'}}
  two: {{type: {SCRIPTED}, script: second}}
  both: {{type: FallbackLLM, llms: [one, two, {{type: {SCRIPTED}, script: third}}], temperature: 0}}
  all: {{type: RouterLLM, llms: [both, two]}}
"""


async def test_members_are_profiles_of_the_same_file_or_configurations(write, monkeypatch):
    monkeypatch.setenv("SAY", "${not} a reference")
    monkeypatch.setenv("LEN", "9999")
    monkeypatch.setenv("LAGENT_LLM_PROFILE", "both")
    path = write(MEMBERS)
    llm = create_llm(path)
    assert (llm.generate("x"), llm.params.temperature) == ("${not} a reference", 0)
    assert [member.session_len for member in llm.members] == [9999, None, None]
    assert repr(create_llm(path, profile="all")).startswith("RouterLLM([FallbackLLM([")
    twin = create_llm(path, asynchronous=True)
    assert isinstance(twin, AsyncFallbackLLM)
    assert await twin.generate("x") == "${not} a reference"
    monkeypatch.setenv("LAGENT_LLM_CONFIG", str(path))
    assert FallbackLLM(["two"]).generate("x") == "second"
    settings = check_config(path, asynchronous=True)[1]  # as for another process
    monkeypatch.delenv("SAY")
    again = create_llm(settings, type="FallbackLLM", asynchronous=True)
    assert await again.generate("x") == "${not} a reference"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            "[one, tow]",
            r"profile 'both': llms\[1\]: no profile 'tow', did you mean 'two'\?; there are one, two",
        ),
        ("[one, both]", r"profile 'both': llms\[1\]: profile 'both' is a member of itself"),
        ("[{type: RouterLLM, llms: [both]}]", r"llms\[0\]: profile 'both' is a member of itself"),
        ("[one, {url: x}]", r"profile 'both': llms\[1\]: 'type' is missing"),
        (
            "[one, {type: LMDeployClient, ulr: x, url: y}]",
            r"llms\[1\]: unknown key 'ulr'.* did you mean 'url'",
        ),
        ("[one, {type: LMDeployClient, url: 'ftp://x'}]", r"profile 'both': llms\[1\]: .*url='ftp://x'"),
        ("[one, 5.5]", r"profile 'both': llms\[1\]: expected a configuration, the name of a profile or"),
        ("one", r"profile 'both': llms: allowed is a list of configurations"),
    ],
)
def test_bad_members(write, monkeypatch, members, message):
    monkeypatch.setenv("SAY", "x")
    monkeypatch.setenv("LEN", "1")
    text = MEMBERS.replace(f"[one, two, {{type: {SCRIPTED}, script: third}}]", members)
    with pytest.raises((ConfigError, InvalidArgument), match=message):
        create_llm(write(text))


def test_openais_names_of_arguments(write):
    llm = create_llm(write("type: LMDeployClient\nbase_url: http://h/v1\nmodel: m\nmax_tokens: 7\nstop: x\n"))
    assert repr(llm) == "LMDeployClient('http://h', model_name='m')"
    assert (llm.params.max_new_tokens, llm.params.stop_words) == (7, ("x",))
    with pytest.raises(ConfigError, match=r"llm.yaml: base_url and url are the same; only one can be given"):
        create_llm(write("type: LMDeployClient\nbase_url: http://h\nurl: http://h\n"))
    with pytest.raises(InvalidArgument, match=r"llm.yaml: max_tokens=0: allowed is an integer of 1 or more"):
        create_llm(write("type: LMDeployClient\nbase_url: http://h\nmax_tokens: 0\n"))
