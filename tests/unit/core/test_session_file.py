"""Saved sessions."""

import json
import os
import stat
import threading

import pytest

from lagent_llms import ConfigError, InvalidArgument
from lagent_llms.core.session_file import read_messages, write_messages
from lagent_llms.testing import ScriptedLLM

DIALOG = [{"role": "system", "content": "Sei kurz: 你好"}, {"role": "user", "content": "Hi"}]


def test_a_file_is_whole_private_and_readable(tmp_path):
    path = tmp_path / "dialog.json"
    path.write_text("former")
    path.chmod(0o644)
    write_messages(path, DIALOG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes()) == {
        "format": "lagent_llms.session",
        "version": 1,
        "messages": DIALOG,
    }
    assert "你好" in path.read_text(encoding="utf-8")
    assert read_messages(str(path)) == DIALOG
    assert list(tmp_path.iterdir()) == [path]


def test_no_secrets_are_saved(tmp_path):
    llm = ScriptedLLM("fine", meta_template="chatml")
    session = llm.session(request_id="sk-secret", temperature=0)
    session.chat("hi")
    session.save(tmp_path / "dialog.json")
    saved = json.loads((tmp_path / "dialog.json").read_bytes())
    assert sorted(saved) == ["format", "messages", "version"]
    assert "sk-secret" not in str(saved)


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "dialog.json")
    write_messages(tmp_path / "link.json", [])
    assert (tmp_path / "link.json").is_symlink()
    assert read_messages(tmp_path / "dialog.json") == []


def test_a_failure_leaves_the_former_file(tmp_path, monkeypatch):
    path = tmp_path / "dialog.json"
    write_messages(path, DIALOG[:1])

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot be saved to .*dialog\.json: No space left"):
        write_messages(path, DIALOG)
    assert read_messages(path) == DIALOG[:1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("path", ["", None, 3, b"x"])
def test_what_is_no_path(path):
    for call in (read_messages, lambda given: write_messages(given, [])):
        with pytest.raises(InvalidArgument, match="path=.*allowed is the path of a file"):
            call(path)


def test_folders_and_pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="cannot be saved to .*no regular file"):
            write_messages(path, [])
        with pytest.raises(ConfigError, match="cannot be read: it is no regular file"):
            read_messages(path)
    with pytest.raises(ConfigError, match=r"missing/dialog\.json: No such file"):
        write_messages(tmp_path / "missing" / "dialog.json", [])
    with pytest.raises(ConfigError, match="nothing cannot be read: No such file"):
        read_messages(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no saved session: Expecting value"),
        (b"\xff", "is no saved session"),
        (b"[" * 100_000, "is no saved session"),
        (b"[]", 'is no saved session: its "format" is not'),
        (b'{"format": "other"}', 'is no saved session: its "format" is not'),
        (b'{"format": "lagent_llms.session", "version": 2}', "has version 2; this release reads version 1"),
        (b'{"format": "lagent_llms.session", "version": 1}', "is damaged: messages: expected a list"),
        (
            b'{"format": "lagent_llms.session", "version": 1, "messages": [{"role": 3}]}',
            r"is damaged: messages\[0\]: 'role' is missing or no string",
        ),
    ],
)
def test_damaged_files(content, message, tmp_path):
    path = tmp_path / "dialog.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        ScriptedLLM().load_session(path)


def test_readers_never_see_a_part(tmp_path):
    path, long = tmp_path / "dialog.json", [{"role": "user", "content": "x" * 200_000}]
    write_messages(path, long)
    writer = threading.Thread(target=lambda: [write_messages(path, long) for _ in range(20)])
    writer.start()
    while writer.is_alive():
        assert read_messages(path) == long
    writer.join()
