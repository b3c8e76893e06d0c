"""The output of a batch job: whatever interrupts it, what was stored stays, and nothing is there twice."""

import errno
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lagent_llms import ConfigError
from lagent_llms.batch.identities import content_hash, identity
from lagent_llms.batch.lines import with_checksum
from lagent_llms.batch.output import BatchOutput, OutputFailed


def line(position, name=None, content="a", **fields):
    row = {"id": name, "row": position, **fields, "input": content_hash(content.encode())}
    return with_checksum(json.dumps(row).encode())


def key(position, name=None, content="a"):
    return identity(position, name, content_hash(content.encode()))


def rows_of(path):
    return [json.loads(row) for row in path.read_bytes().splitlines()]


def store(path, *lines, **options):
    output = BatchOutput(path, **options)
    output.append(lines)
    output.close()


def test_a_row_is_json_with_a_checksum_as_its_last_field(tmp_path):
    store(tmp_path / "out", line(0, text="寿司"))
    row = rows_of(tmp_path / "out")[0]
    assert row["text"] == "寿司"
    assert list(row)[-1] == "crc32"


def test_stored_rows_are_known_by_id_else_by_position(tmp_path):
    store(tmp_path / "out", line(0), line(1, "x"), line(2, 7))
    output = BatchOutput(tmp_path / "out")
    assert output.done == 3
    assert not output.claim(key(0))
    assert not output.claim(key(9, "x"))
    assert not output.claim(key(9, 7))
    assert output.claim(key(9, "7"))  # another id than the number 7
    assert output.claim(key(3))
    assert output.repeated == 0
    assert not output.claim(key(3))
    assert output.repeated == 1
    output.close()


def test_changed_content_is_refused_by_name(tmp_path):
    store(tmp_path / "out", line(0), line(1, "x"))
    output = BatchOutput(tmp_path / "out")
    with pytest.raises(ConfigError, match="row 0: its content has changed"):
        output.claim(key(0, content="b"))
    with pytest.raises(ConfigError, match="id 'x': its content has changed"):
        output.claim(key(1, "x", content="b"))
    output.close()


@settings(max_examples=200, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_cut_at_any_byte_loses_only_the_row_it_is_in(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "out"
    lines = [line(number, text="t" * number) for number in range(4)]
    whole = b"".join(lines)
    path.write_bytes(whole[:cut])
    stored = [number for number in range(4) if sum(map(len, lines[: number + 1])) <= cut]
    output = BatchOutput(path)
    assert output.done == len(stored)
    missing = [number for number in range(4) if output.claim(key(number))]
    assert missing == [number for number in range(4) if number not in stored]
    output.append([lines[number] for number in missing])
    output.close()
    assert path.read_bytes() == whole


def test_rows_that_a_power_cut_has_damaged_are_run_again(tmp_path):
    path = tmp_path / "out"
    lines = [line(number, text="text") for number in range(4)]
    lines[1] = lines[1].replace(b"text", b"tezt", 1)  # the checksum is wrong
    path.write_bytes(b"".join(lines) + b"\0" * 100)
    output = BatchOutput(path)
    assert output.done == 3
    assert output.repaired == len(lines[1]) + 100
    assert [number for number in range(4) if output.claim(key(number))] == [1]
    output.close()
    assert path.read_bytes() == lines[0] + lines[2] + lines[3]
    assert os.listdir(tmp_path) == ["out"]


def test_failed_rows_are_dropped_on_request(tmp_path):
    path = tmp_path / "out"
    failed = line(1, error={"type": "ServerError"})
    store(path, line(0, error=None), failed, line(2, error=None))
    output = BatchOutput(path)
    assert (output.done, output.failed) == (3, 1)
    output.close()
    output = BatchOutput(path, retry_errors=True)
    assert (output.done, output.failed) == (2, 0)
    assert [number for number in range(3) if output.claim(key(number))] == [1]
    output.close()
    assert [row["row"] for row in rows_of(path)] == [0, 2]


@pytest.mark.parametrize("content", [b"my thesis\n", b"my thesis", b'{"a": 1}\n', b"\x89PNG\r\n\x1a\n\0\0"])
def test_a_file_that_is_no_output_is_left_alone(tmp_path, content):
    path = tmp_path / "thesis"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="thesis, line 1: this is no output of a batch job"):
        BatchOutput(path)
    assert path.read_bytes() == content


def test_two_processes_do_not_write_one_output(tmp_path):
    path = tmp_path / "out"
    output = BatchOutput(path)
    other = "import sys; from lagent_llms.batch.output import BatchOutput; BatchOutput(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", other, path], capture_output=True, text=True)
    assert f"another batch, in this or another process, writes the output {path}" in done.stderr
    output.close()
    assert subprocess.run([sys.executable, "-c", other, path]).returncode == 0


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot write the output .*: No such file or directory"):
        BatchOutput(tmp_path / "no" / "out")
    with pytest.raises(ConfigError, match="cannot write the output .*: Is a directory"):
        BatchOutput(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        BatchOutput(tmp_path / "pipe")


def test_the_name_of_a_new_file_is_stored_before_its_first_row(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def note(file):
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    monkeypatch.setattr(os, "fsync", note)
    store(tmp_path / "out", line(0, error={}), line(1))
    assert synced == [str(tmp_path), str(tmp_path / "out")]
    synced.clear()
    BatchOutput(tmp_path / "out", retry_errors=True).close()
    assert synced == [str(tmp_path), str(tmp_path / "out.tmp"), str(tmp_path)]


def test_a_file_that_is_rewritten_keeps_its_place_and_its_rights(tmp_path):
    """The path may be a symbolic link to another disk."""
    (tmp_path / "disk").mkdir()
    target, path = tmp_path / "disk" / "rows", tmp_path / "out"
    path.symlink_to(target)
    store(path, line(0), line(1, error={}))
    target.chmod(0o640)
    BatchOutput(path, retry_errors=True).close()
    assert path.is_symlink()
    assert len(rows_of(target)) == 1
    assert target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path / "disk") == ["rows"]


def test_a_full_disk_while_rows_are_dropped_changes_nothing(tmp_path):
    path = tmp_path / "out"
    store(path, line(5, error={}), *(line(number, text="t" * 1000) for number in range(5)))
    whole = path.read_bytes()
    program = """
import resource, signal, sys
from lagent_llms.batch.output import BatchOutput, OutputFailed
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    BatchOutput(sys.argv[1], retry_errors=True)
except OutputFailed as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert f"cannot write the output {path}: File too large" in done.stdout
    assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == ["out"]


def test_a_forked_child_does_not_hold_the_lock(tmp_path):
    path = tmp_path / "out"
    output = BatchOutput(path)
    (began, began_end), (end, end_end) = os.pipe(), os.pipe()
    if not (child := os.fork()):
        os.close(end_end)
        os.write(began_end, b"x")
        os.read(end, 1)  # until the parent closes its end
        os._exit(0)
    os.read(began, 1)
    output.close()
    BatchOutput(path).close()
    for pipe in (began, began_end, end, end_end):
        os.close(pipe)
    assert os.waitpid(child, 0)[1] == 0


def test_a_full_disk_leaves_whole_rows(tmp_path):
    """The limit on the size of a file stands for a full disk: a write is cut in the middle of a row."""
    path = tmp_path / "out"
    program = """
import resource, signal, sys
from lagent_llms.batch.output import BatchOutput, OutputFailed
from tests.unit.batch.test_output import line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
output = BatchOutput(sys.argv[1])
stored = 0
try:
    while True:
        output.append([line(stored)])
        stored += 1
except OutputFailed as error:
    print(stored, error.errno, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    stored, number, message = done.stdout.split(maxsplit=2)
    assert int(number) == errno.EFBIG
    assert f"cannot write the output {path}: File too large" in message
    assert len(rows_of(path)) == int(stored) > 5


def test_a_failed_write_is_an_oserror():
    assert issubclass(OutputFailed, OSError)
