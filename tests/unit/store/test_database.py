"""SQLite files: their permissions, and their use after a fork, after a replacement, beside other programs."""

import multiprocessing
import os
import sqlite3
import stat
import threading

import pytest

from lagent_llms import ConfigError, InvalidArgument
from lagent_llms.store.database import Database, Schema, checked_path

SCHEMA = Schema("shelf", 77, 1, ("CREATE TABLE books (name TEXT)",))


@pytest.fixture
def open_database(tmp_path):
    opened = []

    def open_database(name="folder/shelf.sqlite", schema=SCHEMA, **options):
        opened.append(Database(tmp_path / name, schema, wait=10, **options))
        return opened[-1]

    yield open_database
    for database in opened:
        database.close()


def add(database, name):
    with database.use() as connection:
        connection.execute("INSERT INTO books VALUES (?)", (name,))


def names(database):
    with database.use() as connection:
        return sorted(name for (name,) in connection.execute("SELECT name FROM books"))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners(open_database):
    database = open_database()
    add(database, "a")
    assert mode(database.path.parent) == 0o700
    assert {mode(path) for path in database.path.parent.iterdir()} == {0o600}


def test_connections_share_a_file(open_database):
    add(open_database(), "a")
    add(open_database(), "b")
    assert names(open_database()) == ["a", "b"]


def test_the_file_of_another_program_is_refused(open_database, tmp_path):
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE things (name TEXT)")
    other.close()
    before = (tmp_path / "other.sqlite").read_bytes()
    with pytest.raises(ConfigError, match="is no shelf of lagent_llms"):
        add(open_database("other.sqlite"), "a")
    assert (tmp_path / "other.sqlite").read_bytes() == before


@pytest.mark.parametrize("content", [b"no database, but some text" * 100, None])
def test_a_damaged_file_is_refused(open_database, tmp_path, content):
    database = open_database("shelf.sqlite")
    if content is None:
        add(database, "a")
        database.close()
        content = database.path.read_bytes()
        content = content[:100] + b"\xff" * (len(content) - 100)
    database.path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"shelf .*shelf\.sqlite is damaged"):
        add(database, "b")


def test_another_version_is_refused(open_database):
    add(open_database(), "a")
    newer = open_database(schema=Schema("shelf", 77, 2, SCHEMA.statements))
    with pytest.raises(ConfigError, match="version 1 of its tables, this lagent_llms uses version 2"):
        add(newer, "b")


def test_what_everybody_may_write_is_refused(open_database):
    database = open_database()
    add(database, "a")
    database.close()
    database.path.chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by every user"):
        add(database, "b")


def test_a_folder_is_no_file(open_database, tmp_path):
    (tmp_path / "shelf.sqlite").mkdir()
    with pytest.raises(ConfigError, match="is no regular file"):
        add(open_database("shelf.sqlite"), "a")


def test_a_deleted_file_is_made_again(open_database):
    database = open_database()
    add(database, "a")
    for path in list(database.path.parent.iterdir()):
        path.unlink()
    add(database, "b")
    assert names(open_database()) == ["b"]


def test_a_failed_transaction_is_rolled_back(open_database):
    database = open_database()
    with pytest.raises(sqlite3.OperationalError), database.use() as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO books VALUES ('half')")
        connection.execute("INSERT INTO nothing VALUES (1)")
    assert names(database) == []


def test_a_reader_makes_no_file(open_database, tmp_path):
    reader = open_database("missing.sqlite", read_only=True)
    with pytest.raises(FileNotFoundError), reader.use():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_what_is_written_meanwhile(open_database):
    writer = open_database()
    add(writer, "a")
    reader = open_database(read_only=True)
    assert names(reader) == ["a"]
    add(writer, "b")
    assert names(reader) == ["a", "b"]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        add(reader, "c")


def test_threads_take_turns(open_database):
    database = open_database()
    threads = [threading.Thread(target=add, args=(database, str(number))) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(database)) == 20


def test_a_child_opens_its_own_connection(open_database):
    database = open_database()
    with database.use() as connection:
        before = connection
    child = multiprocessing.get_context("fork").Process(target=add, args=(database, "child"))
    child.start()
    add(database, "parent")
    child.join()
    assert child.exitcode == 0
    assert names(database) == ["child", "parent"]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        before.execute("SELECT 1")


def test_a_fork_waits_for_a_transaction(open_database):
    database = open_database()
    began, may_end = threading.Event(), threading.Event()

    def write():
        with database.use() as connection:
            connection.execute("BEGIN IMMEDIATE")
            began.set()
            may_end.wait(60)
            connection.execute("INSERT INTO books VALUES ('a')")
            connection.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    began.wait(60)
    child = multiprocessing.get_context("fork").Process(target=add, args=(database, "child"))
    forking = threading.Thread(target=child.start)
    forking.start()
    may_end.set()
    forking.join(60)
    child.join(60)
    writer.join(60)
    assert child.exitcode == 0
    assert names(database) == ["a", "child"]


def test_a_path_is_checked():
    assert checked_path("cache", "~/x", "a folder") == type(checked_path("cache", "x", ""))(
        os.path.expanduser("~/x")
    )
    for value in ("", 3):
        with pytest.raises(InvalidArgument, match="cache=.*: allowed is a folder"):
            checked_path("cache", value, "a folder")
