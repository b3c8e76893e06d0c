"""The arguments `cache` and `journal` of every backend."""

import copy
import pickle

import pytest

from lagent_llms import (
    AnswerCache,
    ConfigError,
    InvalidArgument,
    Journal,
    LMDeployClient,
    LoRAX,
    TritonClient,
    create_llm,
)
from lagent_llms.testing import ScriptedLLM

SCRIPTED = {"type": "lagent_llms.testing.ScriptedLLM", "temperature": 0}


def test_a_path_a_dict_or_an_object(tmp_path, monkeypatch):
    shared = AnswerCache(tmp_path / "shared")
    for cache in (str(tmp_path / "a"), tmp_path / "a", {"path": tmp_path / "a", "max_bytes": 10**6}, shared):
        with ScriptedLLM(cache=cache) as llm:
            assert isinstance(llm.cache, AnswerCache)
    assert llm.cache is shared
    monkeypatch.setenv("FOLDER", str(tmp_path / "b"))
    for name in ("cache", "journal"):
        with create_llm({**SCRIPTED, name: "${FOLDER}/" + name}) as llm:
            assert str(getattr(llm, name).path) == str(tmp_path / "b" / name)
    with ScriptedLLM(journal={"path": tmp_path / "j", "content": False}) as llm:
        assert llm.journal.content is False
        assert llm.cache is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cache": 3}, "cache=3: allowed is a folder"),
        ({"cache": {"path": "x", "size": 1}}, "cache: unknown key 'size'; allowed are path, max_bytes"),
        ({"journal": {"content": False}}, "journal: 'path' is missing; allowed are path, content"),
        ({"journal": {"path": "x", "content": 3}}, "journal: content=3"),
    ],
)
def test_what_is_not_allowed(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match=message) as caught:
        create_llm({**SCRIPTED, **given})
    assert caught.value.argument in given
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_no_cache(tmp_path):
    Journal(tmp_path / "calls.sqlite").close()
    with pytest.raises(ConfigError, match=r"the cache .*calls\.sqlite cannot be used"):
        ScriptedLLM(cache=tmp_path / "calls.sqlite")


def test_a_copy_has_them_too(tmp_path):
    with ScriptedLLM("one", temperature=0, cache=tmp_path / "c", journal=tmp_path / "j") as llm:
        for other in (copy.copy(llm), pickle.loads(pickle.dumps(llm))):
            with other:
                assert other.generate("x") == "one"
        assert llm.complete("x").cached


@pytest.mark.parametrize(
    "llm",
    [
        LMDeployClient("http://h:1", api_key="sk-key", headers={"X-Auth": "in-header", "X-Plain": "plain"}),
        LoRAX("http://h:1", api_key="sk-key", api_token="sk-token", headers={"Cookie": "a=in-header"}),
        TritonClient("http://h:1", api_key="sk-key", headers={"X-Auth": "in-header"}),
    ],
    ids=lambda llm: type(llm).__name__,
)
def test_the_secrets_of_a_client(llm):
    secrets = set(llm.secrets())
    assert {"sk-key", "in-header"} <= secrets
    assert ("sk-token" in secrets) == isinstance(llm, LoRAX)
    assert "plain" not in secrets
