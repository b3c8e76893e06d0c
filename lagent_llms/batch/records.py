"""Read the records of a batch from a file: JSON lines (also compressed), Parquet, CSV."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from ..errors import ConfigError, MissingDependency
from ..untrusted import DECODE_ERRORS, read_json
from .rows import BadRecord

__all__ = ["FORMATS", "count_records", "read_records"]

#: Longest line, in bytes.
_LONGEST = 1 << 26


def read_records(source: str | os.PathLike[str]) -> Iterator[Any]:
    """The records of a file; a broken line is a `BadRecord`. The file is opened at once.

    Args:
        source: A path; the form is found by its ending (`FORMATS`), JSON lines if none fits. ``-`` is
            standard input, which is read to its end first: calls do not wait for a slow writer.

    Raises:
        ConfigError: The file cannot be read.
        MissingDependency: The extra `batch` is not installed, for Parquet, CSV and zstd.
    """
    path = str(source)
    if path == "-":
        return _lines(_spooled(sys.stdin.buffer), "standard input")
    read = next((read for ending, read in FORMATS.items() if path.lower().endswith(ending)), _json_lines)
    try:
        return read(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the input {path}: {reason}") from error


def _spooled(source: IO[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the iterator)
    shutil.copyfileobj(source, file, 1 << 20)
    file.seek(0)
    return file


def count_records(source: str) -> int | None:
    """The number of records of a file, None where it is no file or needs to be parsed for that."""
    ending = next((ending for ending in FORMATS if source.lower().endswith(ending)), "")
    if not os.path.isfile(source):  # a pipe can be read only once
        return None
    if ending == ".parquet":
        return int(_pyarrow("pyarrow.parquet").read_metadata(source).num_rows)
    if ending:
        return None
    with open(source, "rb", buffering=1 << 20) as file:
        return sum(not line.isspace() for line in file)


def _json_lines(path: str) -> Iterator[Any]:
    return _lines(open(path, "rb"), path)


def _gzip_lines(path: str) -> Iterator[Any]:
    with open(path, "rb"):  # gzip.open reads nothing yet
        return _lines(gzip.open(path, "rb"), path)


def _zstd_lines(path: str) -> Iterator[Any]:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingDependency.of("zstandard", "batch") from error
    import io

    file = open(path, "rb")  # noqa: SIM115  (closed by the iterator)
    reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=True)
    return _lines(io.BufferedReader(reader), path)


def _lines(lines: IO[bytes] | gzip.GzipFile, where: str) -> Iterator[Any]:
    with lines:
        number = 0
        while True:
            number += 1
            try:
                line = lines.readline(_LONGEST)
            except (OSError, EOFError, ValueError) as error:  # a compressed file that is cut off
                raise ConfigError(f"cannot read the input {where}, line {number}: {error}") from error
            if not line:
                return
            if len(line) == _LONGEST and not line.endswith(b"\n"):
                raise ConfigError(f"the input {where}, line {number}: more than {_LONGEST} bytes")
            if line.strip():
                try:
                    yield read_json(line)
                except DECODE_ERRORS as error:
                    yield BadRecord(f"line {number}: {_reason(error)}", line)


def _reason(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, msgspec.DecodeError) else "not JSON"


def _parquet(path: str) -> Iterator[Any]:
    parquet = _pyarrow("pyarrow.parquet")
    return _batches(parquet.ParquetFile(path).iter_batches())


def _csv(path: str) -> Iterator[Any]:
    return _batches(_pyarrow("pyarrow.csv").open_csv(path))


def _batches(batches: Any) -> Iterator[Any]:
    for batch in batches:
        yield from batch.to_pylist()


def _pyarrow(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingDependency.of("pyarrow", "batch") from error


#: How a file is read, by the ending of its name.
FORMATS: dict[str, Callable[[str], Iterator[Any]]] = {
    ".gz": _gzip_lines,
    ".zst": _zstd_lines,
    ".parquet": _parquet,
    ".csv": _csv,
}
