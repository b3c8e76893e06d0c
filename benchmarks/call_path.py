"""Count the files and Python calls of this package that one streamed call executes, with sys.setprofile.

One warm `LMDeployClient` stream of 8 events, synchronous and asynchronous. The budget, 20 files and 200
calls, is for messages that the server's template renders and events that arrive together. A template of ours
and events that arrive one by one are counted as well. ``--list`` prints every function with its calls.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lagent_llms
from benchmarks import report
from benchmarks.clients.measure import serving
from lagent_llms import AsyncLMDeployClient, LMDeployClient

NAME = "call_path"
EVENTS = 8
MOST_FILES, MOST_CALLS = 20, 200
MESSAGES = [{"role": "user", "content": "Tell me a story."}]
#: Case -> template, and microseconds between two events.
CASES = {
    "messages": (None, 0),
    "messages, our template": ("internlm2", 0),
    "messages, one event at a time": (None, 20_000),
}
ROOT = f"{Path(lagent_llms.__file__).parent}/"


@contextmanager
def counted(found: Counter[str]) -> Iterator[None]:
    """Count the calls of this package's functions in this thread, as "file:function"."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT):
            found[f"{code.co_filename.removeprefix(ROOT)}:{code.co_name}"] += 1

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def sync_stream(url: str, template: str | None) -> Counter[str]:
    found: Counter[str] = Counter()
    with LMDeployClient(url, "m", meta_template=template) as llm:
        for warm in (Counter[str](), Counter[str](), found):
            with counted(warm):
                for _ in llm.stream_chat(MESSAGES):
                    pass
    return found


async def async_stream(url: str, template: str | None) -> Counter[str]:
    found: Counter[str] = Counter()
    async with AsyncLMDeployClient(url, "m", meta_template=template) as llm:
        for warm in (Counter[str](), Counter[str](), found):
            with counted(warm):
                async for _ in llm.stream_chat(MESSAGES):
                    pass
    return found


def measure(quick: bool) -> dict[str, Any]:
    figures = {}
    with serving() as port:
        for name, (template, pause_us) in CASES.items():
            url = f"http://127.0.0.1:{port}/{EVENTS}/{pause_us}"
            figures[f"{name}, sync"] = sync_stream(url, template)
            figures[f"{name}, async"] = asyncio.run(async_stream(url, template))
    return {"functions": figures}


def files(functions: dict[str, int]) -> list[str]:
    """Return the files of `functions`."""
    return sorted({name.partition(":")[0] for name in functions})


def tables(figures: dict[str, Any]) -> str:
    rows = [
        (name, len(files(functions)), sum(functions.values()))
        for name, functions in figures["functions"].items()
    ]
    head = (f"a stream of {EVENTS} events", f"files (at most {MOST_FILES})", f"calls (at most {MOST_CALLS})")
    return report.table(head, rows)


def listing(functions: dict[str, int]) -> str:
    """Return every function by file, with its number of calls."""
    return "\n".join(
        f"{sum(n for name, n in functions.items() if name.partition(':')[0] == file):5} {file}\n"
        + "\n".join(
            f"{'':8}{count:4} {name.partition(':')[2]}"
            for name, count in sorted(functions.items())
            if name.partition(":")[0] == file
        )
        for file in files(functions)
    )


if __name__ == "__main__":
    everything = "--list" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--list"]
    for path, functions in report.main(NAME, __doc__, measure, tables, arguments=arguments)[
        "functions"
    ].items():
        print(f"\n{path}: {', '.join(files(functions))}")
        if everything:
            print(listing(functions))
