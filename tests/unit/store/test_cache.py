"""The cache of answers as a store."""

import copy
import sqlite3
import threading

import pytest

from lagent_llms import AnswerCache, Completion, ConfigError, InvalidArgument
from lagent_llms.schema import StreamChunk, TextBuffer

KEY = b"k" * 32


def chunks(text):
    return [StreamChunk(1, text, 1, TextBuffer(), len(text))]


@pytest.fixture
def cache(tmp_path):
    cache = AnswerCache(tmp_path / "cache")
    yield cache
    cache.close()


def put(cache, key, text):
    cache.put(key, chunks(text), Completion(text, "stop"))
    cache.flush()


def test_an_answer_is_found_by_its_key(cache, tmp_path):
    assert cache.get(KEY) is None
    put(cache, KEY, "ok")
    assert cache.get(KEY).completion == Completion("ok", "stop")
    assert cache.get(b"other") is None
    assert (cache.hits, cache.misses) == (1, 2)
    other = AnswerCache(str(tmp_path / "cache"))
    assert other.get(KEY).steps[0].delta == "ok"
    other.close()


def test_an_answer_is_found_before_it_is_written(cache, monkeypatch):
    may_write = threading.Event()
    insert = cache._writer._insert

    def insert_later(connection, entry):
        may_write.wait(60)
        insert(connection, entry)

    monkeypatch.setattr(cache._writer, "_insert", insert_later)
    cache.put(KEY, chunks("ok"), Completion("ok", "stop"))
    assert cache.get(KEY).completion.text == "ok"
    may_write.set()
    cache.flush()
    assert not cache._unwritten
    assert cache.get(KEY).steps[0].delta == "ok"


def test_the_oldest_answers_are_deleted(tmp_path):
    cache = AnswerCache(tmp_path, max_bytes=100_000)
    for number in range(40):
        text = "".join(chr(0x4E00 + (number * 7919 + place * 31) % 20000) for place in range(2000))
        put(cache, str(number).encode(), text)
    kept = [number for number in range(40) if cache.get(str(number).encode()) is not None]
    assert 5 < len(kept) < 30
    assert kept == list(range(kept[0], 40))
    cache.close()


def test_a_damaged_answer_is_a_miss_and_is_replaced(cache, caplog):
    put(cache, KEY, "ok")
    file = next(cache.path.glob("answers-*.sqlite"))
    with sqlite3.connect(file) as other:
        other.execute("UPDATE answers SET answer = 'x'")
    other.close()
    assert cache.get(KEY) is None
    assert "cannot be read" in caplog.text
    put(cache, KEY, "again")
    assert cache.get(KEY).completion.text == "again"


def test_a_file_damaged_meanwhile_fails_no_call(cache, caplog):
    put(cache, KEY, "ok")
    cache.close()
    file = next(cache.path.glob("answers-*.sqlite"))
    file.write_bytes(b"\xff" * 8192)
    assert cache.get(KEY) is None
    put(cache, KEY, "lost")
    assert cache.lost == 1
    assert "damaged" in caplog.text
    with pytest.raises(ConfigError, match=r"cache .*answers-1\.sqlite is damaged"):
        AnswerCache(cache.path)


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"the cache .*file cannot be used"):
        AnswerCache(tmp_path / "file")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigError, match="can be written by every user"):
        AnswerCache(tmp_path / "open")
    with pytest.raises(InvalidArgument, match="cache=3: allowed is a folder"):
        AnswerCache(3)
    with pytest.raises(InvalidArgument, match="max_bytes=0"):
        AnswerCache(tmp_path, max_bytes=0)


def test_a_copy_uses_the_same_folder(cache):
    put(cache, KEY, "ok")
    other = copy.deepcopy(cache)
    assert other.get(KEY).completion.text == "ok"
    other.close()
