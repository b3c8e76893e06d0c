"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import report
from benchmarks.clients.measure import FIRST_CHUNK_BUDGETS, MOST_MS_TO_IMPORT, OURS

__all__ = ["tables"]

_NOTES = """
µs of CPU time, and how many times that of the floor (a socket, or an asyncio protocol, and orjson) in the
same process: medians over rounds in turns. *Bursts*: 2,000 chunks as fast as they can be read; *paced*: one
event every 300 µs. *At once*: each stream gets an event at the same ticks, every 10 ms for 100 streams and
every 100 ms for 1,000; `*` could not read them as fast as they came, and so found several at a time, which is
cheaper. A request brings 20 words, not streamed. The first chunk is wall time.
""".strip()
_START_NOTES = """
*Import* and *first answer* (2,000 chunks, the import included) are CPU time of fresh processes, the latter
beyond that of the floor's process, which has loaded what is Python's; *peak* is the most memory of such a
process, and of one that reads 1,000 streams at once. *Installed* counts the package and all it needs, without
bytecode.
""".strip()


def tables(figures: dict[str, Any]) -> str:
    parts = [_budgets(figures), _streams(figures), _NOTES, _many(figures), _start(figures), _START_NOTES]
    return "\n\n".join(part for part in [*parts, _server(figures)] if part)


def _cell(row: Mapping[str, Any] | None, *, late: bool = False) -> str:
    if row is None:
        return ""
    figure = f"{row['us']:.0f}" if row["us"] >= 100 else f"{row['us']:.3g}"
    return f"{figure} ({row['x_floor']:.1f}x){'*' if late else ''}"


def _budgets(figures: dict[str, Any]) -> str:
    rows = [
        (one["what"], f"{one['is']:.2f}x {one['reference']}", f"{one['most']:g}x")
        for one in figures["budgets"]
    ]
    ours = figures["clients"][OURS]
    for mode, reference, most in FIRST_CHUNK_BUDGETS:
        over = ours[mode]["first chunk"]["over_us"] / 1e3
        if reference != "floor":
            if reference not in figures["clients"]:
                continue
            over -= figures["clients"][reference][mode]["first chunk"]["over_us"] / 1e3
        later = f"{over:.2f} ms later than {'the floor' if reference == 'floor' else reference}"
        rows.append((f"first chunk, {mode}", later, f"{most} ms"))
    if start := ours.get("start"):
        rows.append(("import", f"{start['import_ms']:.0f} ms", f"{MOST_MS_TO_IMPORT} ms"))
    return report.table(("what", "measured", "budget"), rows)


def _streams(figures: dict[str, Any]) -> str:
    head = ("a streamed chunk", "sync, bursts", "sync, paced", "async, bursts", "async, paced")
    rows = [
        (
            name,
            *(
                _cell(row.get(mode, {}).get(kind))
                for mode in ("sync", "async")
                for kind in ("burst", "paced")
            ),
        )
        for name, row in figures["clients"].items()
    ]
    return report.table(head, rows)


def _many(figures: dict[str, Any]) -> str:
    head = (
        "client", "100 at once", "1,000 at once", "1,000 in bursts", "request, sync", "request, async",
        "first chunk, sync", "first chunk, async",
    )  # fmt: skip
    rows = []
    for name, row in figures["clients"].items():
        sync, aio = row.get("sync", {}), row.get("async", {})
        cells = [
            _cell(aio.get("100 at once"), late=_late(aio.get("100 at once"), 100.0)),
            _cell(aio.get("1000 at once"), late=_late(aio.get("1000 at once"), 100.0)),
            _cell(aio.get("1000 in bursts")),
            _cell(sync.get("request")),
            _cell(aio.get("request")),
            *(f"+{mode['first chunk']['over_us'] / 1e3:.2f} ms" if mode else "" for mode in (sync, aio)),
        ]
        rows.append((name, *cells))
    return report.table(head, rows)


def _late(row: Mapping[str, Any] | None, pause_us: float) -> bool:
    """Return whether a client took clearly longer than the server took to send the events."""
    return row is not None and row["wall_us"] > 1.3 * pause_us


def _start(figures: dict[str, Any]) -> str:
    head = ("client", "version", "import", "first answer", "peak", "peak, 1,000 streams", "installed")
    rows = []
    for name, client in figures["clients"].items():
        if start := client.get("start"):
            many = f"{start['peak_1000_mb']:.0f} MB" if "peak_1000_mb" in start else ""
            rows.append(
                (
                    name,
                    start["version"],
                    f"{start['import_ms']:.0f} ms",
                    f"{start['first_answer_ms']:.0f} ms",
                    f"{start['peak_mb']:.0f} MB",
                    many,
                    f"{start['dists']} packages, {start['mb']:.1f} MB",
                )
            )
    return report.table(head, rows) if rows else ""


def _server(figures: dict[str, Any]) -> str:
    """Return the line that compares the server with the floor and with the fastest client."""
    parts = []
    for mode, kind, what in (
        ("sync", "burst", "a chunk of a burst"),
        ("async", "1000 in bursts", "a chunk of 1,000 bursts"),
        ("sync", "request", "a request"),
    ):
        if found := figures["server"].get(mode, {}).get(kind):
            worst = max(found, key=lambda one: one["server_us"] / one["floor_us"])
            fastest = min(
                client[mode][kind]["us"]
                for client in figures["clients"].values()
                if kind in client.get(mode, {})
            )
            parts.append(
                f"{worst['server_us']:.2g} µs {what} (the floor {worst['floor_us']:.2g}, "
                f"the fastest client {fastest:.3g})"
            )
    return f"The server takes {'; '.join(parts)}."
