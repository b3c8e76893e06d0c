"""Compare the rendering of chat templates with transformers: python -m benchmarks.chat_templates FOLDER ...

Every FOLDER is searched for Jinja files, model directories (tokenizer_config.json, chat_template.jinja or
.json) and other JSON files that hold objects with a `chat_template`. Each template renders the dialogs of
`dialogs` on both sides; a template without a configuration gets the special tokens <s>, </s>,
<unk> and <pad> by argument.

transformers is the reference. It receives tool-call arguments decoded where they are a JSON object in a
string, because lagent_llms decodes them and transformers does not. Where a template refuses or prints these,
it receives calls as a server does: arguments as a string, and null or an empty string where a content is
missing. It receives text parts joined where a template does not read parts: transformers would omit them,
write Python's notation of the list, or refuse.

The exit status is 1 if a dialog is rendered differently, or a template is loaded by transformers only.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.chat_templates.compare import OUTCOMES, Result, compare
from benchmarks.chat_templates.dialogs import DIALOGS
from benchmarks.chat_templates.sources import Source, find_sources

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--all", action="store_true", help="show all differences, not only each model's first"
    )
    options = parser.parse_args(arguments)
    rows = []
    failed = False
    for folder in options.folders:
        counts: Counter[str] = Counter()
        for source in find_sources(folder):
            result = compare(source)
            failed = failed or result.failed
            counts += result.counts
            counts["models"] += 1
            counts["not loaded"] += [*result.not_loaded] == ["lagent_llms"]
            _show(source, result, None if options.all else 1)
        rows.append((folder.name, counts))
    columns = ("models", *OUTCOMES, "not loaded")
    total = sum((counts for _, counts in rows), Counter())
    if len(rows) > 1:
        rows.append(("total", total))
    lines = [(name, *(f"{counts[column]:,}" for column in columns)) for name, counts in rows]
    print(f"\n{len(DIALOGS)} dialogs\n\n{report.table(('folder', *columns), lines)}")
    return int(failed)


def _show(source: Source, result: Result, limit: int | None) -> None:
    counts = ", ".join(f"{result.counts[name]} {name}" for name in OUTCOMES if result.counts[name])
    print(f"{source.name}: {counts or result.word}", flush=True)
    for side, error in result.not_loaded.items():
        print(f"    {side}: {error:.300}")
    for label, here, there in result.differences[:limit]:
        print(f"    {label}\n      lagent_llms:  {here}\n      transformers: {there}")


if __name__ == "__main__":
    sys.exit(main())
