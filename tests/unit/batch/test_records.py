"""JSON lines, compressed or not; the other forms need an extra: tests/integration/batch."""

import gzip
import io
import os
import sys

import pytest

from lagent_llms import ConfigError
from lagent_llms.batch.records import count_records, read_records
from lagent_llms.batch.rows import BadRecord

LINES = '{"prompt": "寿司"}\n\n{"prompt": "b"}\n'.encode()
RECORDS = [{"prompt": "寿司"}, {"prompt": "b"}]


def test_json_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    assert list(read_records(path)) == RECORDS


def test_gzip(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINES))
    assert list(read_records(path)) == RECORDS
    assert count_records(str(path)) is None


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES)))
    assert list(read_records("-")) == RECORDS


def test_a_compressed_file_that_is_cut_off_is_said_with_its_line(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINES)[:-9])
    with pytest.raises(ConfigError, match=r"rows.jsonl.gz, line \d: "):
        list(read_records(path))


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[" * 100_000, b'"\xed\xa0\x80"'])
def test_a_broken_line_is_no_end(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b"\n" + LINES)
    broken, *good = read_records(path)
    assert isinstance(broken, BadRecord)
    assert broken.message.startswith("line 1: ")
    assert good == RECORDS


def test_a_missing_file_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the input .*: No such file"):
        read_records(tmp_path / "rows.jsonl")


def test_records_are_counted_as_they_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES.rstrip())
    assert count_records(str(path)) == 2


def test_a_pipe_is_not_read_to_count_it(tmp_path):
    os.mkfifo(tmp_path / "rows")
    assert count_records(str(tmp_path / "rows")) is None
