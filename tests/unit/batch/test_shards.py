"""Shards: what writers store survives them, and every row counts once when they are merged."""

import asyncio
import json

import pytest

from lagent_llms import ConfigError
from lagent_llms.batch.lines import with_checksum
from lagent_llms.batch.output import BatchOutput
from lagent_llms.batch.rows import RowReader
from lagent_llms.batch.shards import ShardWriter, shards_folder

ROWS = [*RowReader(f"p{number}" for number in range(10))]


def line(number, text="ok", error=None):
    row = {"id": None, "row": number, "text": text, "error": error, "input": ROWS[number].content}
    return with_checksum(json.dumps(row).encode())


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def write_shard(output, *lines):
    folder = output.with_name("out.shards")
    folder.mkdir(exist_ok=True)

    async def main():
        writer = ShardWriter(shards_folder(output))
        await asyncio.gather(*map(writer.append, lines))

    asyncio.run(main())


def texts(output):
    rows = map(json.loads, output.read_bytes().splitlines())
    return {row["row"]: row["text"] for row in rows}


def test_shards_are_merged_when_the_output_is_opened(output):
    write_shard(output, line(0), line(1))
    write_shard(output, line(2, error="failed"))
    found = BatchOutput(output)
    assert (found.done, found.failed) == (3, 1)
    assert [found.claim(row.identity) for row in ROWS[:4]] == [False, False, False, True]
    found.close()
    assert texts(output) == {0: "ok", 1: "ok", 2: "ok"}
    assert not output.with_name("out.shards").exists()


def test_a_row_of_two_shards_counts_once(output):
    found = BatchOutput(output)
    assert all(found.claim(row.identity) for row in ROWS)
    found.append([line(0, "stored before")])
    for text in ("a", "b"):
        write_shard(output, line(1, text), line(2, text))
    found.merge_shards()
    write_shard(output, line(2, "again"), line(3, "last"))
    found.merge_shards()
    found.close()
    rows = texts(output)
    assert len(output.read_bytes().splitlines()) == len(rows) == 4
    assert {rows[1], rows[2]} <= {"a", "b"}
    assert rows[3] == "last"


def test_a_merge_that_was_interrupted_is_repeated_without_repeating_rows(output):
    write_shard(output, line(0), line(1))
    (shard,) = output.with_name("out.shards").iterdir()
    kept = shard.read_bytes()
    BatchOutput(output).close()
    output.with_name("out.shards").mkdir()
    shard.write_bytes(kept)
    found = BatchOutput(output)
    assert found.done == 2
    found.close()
    assert len(output.read_bytes().splitlines()) == 2


def test_what_a_killed_writer_has_begun_is_left_out(output):
    write_shard(output, line(0), line(1))
    (shard,) = output.with_name("out.shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-9])
    found = BatchOutput(output)
    assert found.done == 1
    found.close()


def test_errors_of_shards_run_again_on_request(output):
    write_shard(output, line(0, error="failed"), line(1))
    found = BatchOutput(output, retry_errors=True)
    assert (found.done, found.failed) == (1, 0)
    assert found.claim(ROWS[0].identity)
    found.close()


def test_changed_content_of_a_merged_row_is_said(output):
    write_shard(output, line(0))
    found = BatchOutput(output)
    (changed,) = RowReader(["other"])
    with pytest.raises(ConfigError, match="its content has changed"):
        found.claim(changed.identity)
    found.close()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="must have the same path on every node"):
        ShardWriter(str(tmp_path / "none"))
