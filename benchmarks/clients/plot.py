"""Plot the cost of a streamed chunk relative to the floor. Needs the extra `plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.clients.measure import OURS

__all__ = ["plot"]

_PANELS = (
    ("sync", "burst", "sync, in bursts"),
    ("sync", "paced", "sync, every 300 µs"),
    ("async", "burst", "async, in bursts"),
    ("async", "1000 at once", "async, 1,000 streams at once"),
)


def plot(figures: dict[str, Any], path: Path) -> None:
    """Draw one bar per client, the fastest at the top, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "clients", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 5.2), layout="constrained")
    for axis, (mode, kind, title) in zip(axes.flat, _PANELS, strict=True):
        found = {
            name: client[mode][kind]["x_floor"]
            for name, client in figures["clients"].items()
            if kind in client.get(mode, {}) and "," not in name
        }
        names = sorted(found, key=found.__getitem__, reverse=True)
        bars = axis.barh(
            names,
            [found[name] for name in names],
            color=["#c2410c" if n == OURS else "#94a3b8" for n in names],
        )
        axis.bar_label(bars, [f"{found[name]:.1f}" for name in names], padding=3)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlim(1, max(found.values()) * 2.5)
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.suptitle("CPU time of a streamed chunk, times the floor (a socket and orjson)", fontsize=11)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
