"""Entries that a thread writes: order, loss, the end of the process, and forks."""

import gc
import logging
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading

import pytest

from lagent_llms.store import writer as module
from lagent_llms.store.database import Database, Schema
from lagent_llms.store.writer import Writer

SCHEMA = Schema("shelf", 77, 1, ("CREATE TABLE books (name TEXT)",))


def insert(connection, name):
    connection.execute("INSERT INTO books VALUES (?)", (name,))


@pytest.fixture
def writer(tmp_path):
    writer = Writer(Database(tmp_path / "shelf.sqlite", SCHEMA, wait=10), insert)
    writer.start()
    yield writer
    writer.close()
    writer.stop()


def stored(tmp_path):
    connection = sqlite3.connect(tmp_path / "shelf.sqlite")
    try:
        return [name for (name,) in connection.execute("SELECT name FROM books ORDER BY rowid")]
    finally:
        connection.close()


def test_entries_are_written_in_their_order(writer, tmp_path):
    names = [str(number) for number in range(2000)]
    for name in names:
        writer.put(name)
    assert writer.flush(60)
    assert stored(tmp_path) == names
    assert writer.lost == 0


def test_a_writer_that_was_stopped_waits_for_nothing_and_writes_again(writer, tmp_path):
    for name in ("a", "b"):
        writer.put(name)
        writer.stop()
        assert writer.flush(60)
    assert stored(tmp_path) == ["a", "b"]


def test_a_bad_entry_is_lost_alone(writer, tmp_path, caplog):
    for name in ("a", "half \ud83d a character", "b"):
        writer.put(name)
    writer.flush()
    assert stored(tmp_path) == ["a", "b"]
    assert writer.lost == 1
    assert "1 entries are lost" in caplog.text


def test_a_failing_disk_is_said_once_and_counted(tmp_path, caplog):
    full = []

    def insert_unless_full(connection, name):
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        insert(connection, name)

    writer = Writer(Database(tmp_path / "shelf.sqlite", SCHEMA, wait=10), insert_unless_full)
    for name in ("a", "b", "c"):
        full[:] = [True] * (name != "c")
        writer.put(name)
        writer.flush()
    assert writer.lost == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "disk is full" in caplog.text
    assert stored(tmp_path) == ["c"]
    writer.close()
    writer.stop()


def test_too_many_entries_are_lost_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_WAITING", 2)
    writer = Writer(Database(tmp_path / "shelf.sqlite", SCHEMA, wait=10), insert)
    for name in "abc":
        writer.put(name)
    assert writer.flush(60)
    assert writer.lost == 1
    assert stored(tmp_path) == ["a", "b"]
    writer.close()
    writer.stop()


def test_a_dropped_writer_ends_its_thread(tmp_path):
    writer = Writer(Database(tmp_path / "shelf.sqlite", SCHEMA, wait=10), insert)
    writer.start()
    thread = writer._thread
    writer.put("a")
    writer.stop()
    del writer
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
    assert stored(tmp_path) == ["a"]


PROGRAM = """
import multiprocessing, sys
from pathlib import Path
from lagent_llms.store.database import Database, Schema
from lagent_llms.store.writer import Writer

SCHEMA = Schema("shelf", 77, 1, ("CREATE TABLE books (name TEXT)",))

def insert(connection, name):
    connection.execute("INSERT INTO books VALUES (?)", (name,))

def put(path):
    writer = Writer(Database(path, SCHEMA, wait=10), insert)
    writer.start()
    for number in range(500):
        writer.put(str(number))
    globals()["kept"] = writer

if __name__ == "__main__":
    path, method = Path(sys.argv[1]), sys.argv[2]
    if method == "itself":
        put(path)
    else:
        child = multiprocessing.get_context(method).Process(target=put, args=(path,))
        child.start()
        child.join()
"""


@pytest.mark.parametrize("method", ["itself", "fork"])
def test_the_end_of_a_process_waits_for_what_is_put(tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "shelf.sqlite"), method]
    subprocess.run(command, check=True, timeout=120)
    assert len(stored(tmp_path)) == 500


def test_a_child_writes_its_own_entries_only(tmp_path):
    may_write = threading.Event()

    def insert_later(connection, name):
        may_write.wait(60)
        insert(connection, name)

    writer = Writer(Database(tmp_path / "shelf.sqlite", SCHEMA, wait=10), insert_later)

    def child():
        may_write.set()
        writer.start()
        writer.put("child")
        os._exit(0 if writer.flush(60) and writer.lost == 0 else 1)

    writer.put("parent")
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    may_write.set()
    writer.close()
    writer.stop()
    assert stored(tmp_path) == ["child", "parent"]
