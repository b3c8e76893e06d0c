"""Write the table of docs/meta_templates.md: ``python -m tests.unit.templates.table [--write]``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from lagent_llms.errors import TemplateError
from lagent_llms.templates import available_templates, load_template

from .conftest import DAY, load
from .test_families import NOT_PREFIX_STABLE

DOCS = Path(__file__).parents[3] / "docs" / "meta_templates.md"
FAMILIES = Path(__file__).parents[3] / "meta_templates"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"


def compared() -> dict[str, list[tuple[list[Any], dict[str, Any], str | None]]]:
    """Return for each family: dialogs, options of `render`, and the official text (None if rejected)."""
    found: dict[str, list[tuple[list[Any], dict[str, Any], str | None]]] = {
        name: [] for name in available_templates()
    }
    for row in load("golden.json.gz"):
        keywords = {"add_generation_prompt": row["add_generation_prompt"], **row.get("template_kwargs", {})}
        found[row["family"]].append((row["messages"], keywords, row.get("expected")))
    random = load("random.json.gz")
    for name, texts in random["expected"].items():
        for dialog, text in zip(random["dialogs"], texts, strict=True):
            keywords = {"add_generation_prompt": dialog["add_generation_prompt"]}
            found[name].append((dialog["messages"], keywords, text))
    return found


def table() -> str:
    """Return the table in Markdown."""
    lines = [
        "| family | source of truth | dialogs | equal | refused alike | different | prefix-stable |",
        "|---|---|---|---|---|---|---|",
    ]
    total: Counter[str] = Counter()
    for name, rows in compared().items():
        template = load_template(name)
        assert template is not None
        counts: Counter[str] = Counter()
        for messages, keywords, expected in rows:
            try:
                text = template.render(messages, now=DAY, **keywords)
            except TemplateError:
                text = None
            counts["different" if text != expected else "refused" if text is None else "equal"] += 1
        total += counts
        source = yaml.safe_load((FAMILIES / f"{name}.yaml").read_text(encoding="utf-8"))["source"]
        stable = "no" if name in NOT_PREFIX_STABLE else "yes"
        lines.append(_line(name, source, len(rows), counts, stable))
    lines.append(_line(f"**{len(lines) - 2} families**", "", sum(total.values()), total, ""))
    return "\n".join(lines) + "\n"


def _line(name: str, source: str, rows: int, counts: Counter[str], stable: str) -> str:
    figures = f"{rows} | {counts['equal']} | {counts['refused']} | {counts['different']}"
    return f"| {name} | {source} | {figures} | {stable} |"


if __name__ == "__main__":
    if "--write" in sys.argv:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
        DOCS.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
    else:
        print(table())
