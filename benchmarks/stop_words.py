"""Stop words in a stream: our incremental scanner, and lagent's search of the whole text at every chunk.

Streams of 1,000 to 128,000 chunks with five stop words, chunk by chunk. lagent's cost grows with the square
of the length, so it is measured only up to 32,000 chunks.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import report
from lagent_llms.core.stop_words import StopWordScanner

NAME = "stop_words"
STOP_WORDS = ("<|im_end|>", "<|action_end|>", "</s>", "\nUser:", "Observation:")
COUNTS = (1_000, 8_000, 32_000, 128_000)
RESCANNED = 32_000


def chunks(count: int) -> list[str]:
    """Return words of an answer; some of them begin like a stop word."""
    words = (" the", " answer", " is", " O", "bserv", "ed", " <", "|im", "_start|>", "\n", "User", " 42", ".")
    return [words[index % len(words)] for index in range(count)]


def nothing(pieces: list[str]) -> None:
    """The floor: the loop itself."""
    for piece in pieces:
        len(piece)


def scanner(pieces: list[str]) -> None:
    scan = StopWordScanner(STOP_WORDS)
    for piece in pieces:
        scan.feed(piece)
    scan.flush()


def rescan(pieces: list[str]) -> None:
    """Search the whole text so far for every stop word at every chunk, as lagent's clients do."""
    text = ""
    for piece in pieces:
        text += piece
        for word in STOP_WORDS:
            if text.find(word) != -1:
                return


def measure(quick: bool) -> dict[str, Any]:
    rows = {}
    for count in COUNTS:
        pieces = chunks(count)
        candidates: dict[str, Callable[[], object]] = {
            "scanner": lambda pieces=pieces: scanner(pieces),
            "loop": lambda pieces=pieces: nothing(pieces),
        }
        times = report.interleaved(candidates, 3 if quick else 15)
        slow = []
        if count <= RESCANNED:
            slow = report.interleaved(
                {"rescan": lambda pieces=pieces: rescan(pieces)}, 1 if quick or count == RESCANNED else 3
            )["rescan"]
        rows[str(count)] = {
            "scanner_us_a_chunk": min(times["scanner"]) / count * 1e6,
            "scanner_median_us_a_chunk": statistics.median(times["scanner"]) / count * 1e6,
            "loop_us_a_chunk": min(times["loop"]) / count * 1e6,
            "rescan_us_a_chunk": min(slow) / count * 1e6 if slow else None,
        }
    return {"chunks": rows}


def tables(figures: dict[str, Any]) -> str:
    rows = [
        (
            f"{int(count):,}",
            f"{row['scanner_us_a_chunk']:.2f}",
            f"{row['scanner_median_us_a_chunk']:.2f}",
            f"{row['rescan_us_a_chunk']:.1f}" if row["rescan_us_a_chunk"] else "not run",
            f"{row['rescan_us_a_chunk'] / row['scanner_us_a_chunk']:.0f}x"
            if row["rescan_us_a_chunk"]
            else "",
        )
        for count, row in figures["chunks"].items()
    ]
    head = ("chunks", "scanner, best", "scanner, median", "rescan of the text so far", "ratio")
    return report.table(head, rows) + "\n\nµs of CPU time a chunk, five stop words."


if __name__ == "__main__":
    report.main(NAME, __doc__, measure, tables)
