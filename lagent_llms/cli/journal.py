"""`lagent-llms journal`: list, search and export the calls of a journal."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from ..store.journal_reader import JournalReader, StoredCall
from .output import emitting, visible

__all__ = ["journal"]

#: Characters of a prompt and of an answer in the list.
_SHOWN = 60


def journal(
    file: Annotated[str, typer.Argument(help="The journal, as written with --journal FILE.")],
    search: Annotated[
        str | None, typer.Option(help="Only calls with this text in the prompt, the answer or the error.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only calls that failed.")] = False,
    last: Annotated[
        int | None,
        typer.Option(min=1, help="Only so many calls, the last ones. Default: 20; all with --jsonl."),
    ] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print whole calls as lines of JSON.")] = False,
) -> None:
    """List the calls of a journal, oldest first, or export them."""
    reader = JournalReader(file)
    newest = last if last is not None or jsonl else 20
    with emitting():
        for call in reader.calls(search=search, failed=failed, newest=newest):
            line = msgspec.json.encode(call.as_dict()).decode() if jsonl else _line(call)
            sys.stdout.write(f"{visible(line, sys.stdout)}\n")


def _line(call: StoredCall) -> str:
    time = datetime.fromtimestamp(call.time).isoformat(" ", "seconds")
    tokens = f"{_number(call.prompt_tokens)}+{_number(call.completion_tokens)} tokens"
    status = f"{call.status} (cached)" if call.cached else call.status
    figures = f"{call.id:>5}  {time}  {call.seconds:8.2f} s  {tokens:>16}  {status:<12}"
    texts = [_short(_question(call)), _short(call.text or str((call.error or {}).get("message", "")))]
    return f"{figures}  {call.model or call.backend}" + (
        f"\n       {' -> '.join(texts)}" if any(texts) else ""
    )


def _question(call: StoredCall) -> str:
    if not call.messages:
        return call.prompt or ""
    content = call.messages[-1].get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _number(count: int | None) -> str:
    return "?" if count is None else str(count)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else f"{words[: _SHOWN - 1]}…"
