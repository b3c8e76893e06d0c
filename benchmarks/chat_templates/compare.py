"""Render dialogs with the templates of one model, here and in transformers, and compare the texts."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chat_templates.dialogs import DIALOGS, Dialog
from benchmarks.chat_templates.sources import Source, write
from lagent_llms.errors import LLMError
from lagent_llms.messages import check_messages
from lagent_llms.templates import ChatTemplate, load_template

__all__ = ["OUTCOMES", "Result", "compare"]

#: transformers loads no tokenizer without a vocabulary; this one is added to models that come without.
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
}
CONTEXT = 60
OUTCOMES = ("equal", "refused alike", "different")


@dataclass
class Result:
    """Outcome of one model: how many renderings are equal, refused by both sides, or different.

    Attributes:
        counts: Number of renderings by outcome.
        differences: Name of each different rendering, and what both sides made of it.
        not_loaded: The errors of the sides that do not load the model: 'lagent_llms', 'transformers'.
    """

    counts: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, str, str]] = field(default_factory=list)
    not_loaded: dict[str, str] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """The outcome in a word."""
        if self.not_loaded:
            return "not loaded by " + " and ".join(self.not_loaded)
        return next(name for name in ("different", "equal", "refused alike") if self.counts[name])

    @property
    def failed(self) -> bool:
        """True if transformers renders what is not rendered here, or differently."""
        return bool(self.counts["different"]) or [*self.not_loaded] == ["lagent_llms"]


def compare(source: Source, dialogs: Sequence[Dialog] = DIALOGS) -> Result:
    """Render `dialogs` with the templates of one model on both sides."""
    result = Result()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(source, folder)
        try:
            ours = _load_ours(folder, source.tokens, None)
        except LLMError as error:
            result.not_loaded["lagent_llms"] = f"{type(error).__name__}: {error}"
        try:
            theirs = _load_theirs(folder, source.tokens)
        except Exception as error:  # noqa: BLE001 - of any kind: a malformed file
            result.not_loaded["transformers"] = f"{type(error).__name__}: {error}"
        if result.not_loaded:
            return result
        named = theirs.chat_template if isinstance(theirs.chat_template, dict) else {}
        for chosen in (None, *named):
            if chosen is not None:
                ours = _load_ours(folder, source.tokens, chosen)
            text = named[chosen] if chosen is not None else None
            for dialog in dialogs:
                _compare(
                    result, f"{dialog.name} ({chosen})" if chosen else dialog.name, ours, theirs, text, dialog
                )
    return result


def _compare(
    result: Result, label: str, ours: ChatTemplate, theirs: Any, chat_template: str | None, dialog: Dialog
) -> None:
    options = {"add_generation_prompt": True, **dialog.options}
    here, there = _render_ours(ours, dialog, options), _render_theirs(theirs, chat_template, dialog, options)
    if here != there and isinstance(there, str):  # the clock may have moved in between
        here, there = (
            _render_ours(ours, dialog, options),
            _render_theirs(theirs, chat_template, dialog, options),
        )
    if isinstance(here, str) or isinstance(there, str):
        outcome = "equal" if here == there else "different"
    else:
        outcome = "refused alike"
    result.counts[outcome] += 1
    if outcome == "different":
        result.differences.append((label, *excerpts(here, there)))


def _render_ours(template: ChatTemplate, dialog: Dialog, options: Mapping[str, Any]) -> str | Exception:
    try:
        return template.render(check_messages(dialog.messages), tools=dialog.tools, **options)
    except LLMError as error:
        return error


def _render_theirs(
    tokenizer: Any, chat_template: str | None, dialog: Dialog, options: Mapping[str, Any]
) -> str | Exception:
    from transformers.utils.chat_template_utils import render_jinja_template

    def render(messages: list[dict[str, Any]], *, keep_null: bool = False) -> str | Exception:
        arguments = {"tokenize": False, "tools": dialog.tools, "chat_template": chat_template, **options}
        try:
            if not keep_null:
                return str(tokenizer.apply_chat_template(messages, **arguments))
            source = tokenizer.get_chat_template(chat_template, dialog.tools)
            variables = {**tokenizer.special_tokens_map, **options}
            texts, _ = render_jinja_template([messages], dialog.tools, chat_template=source, **variables)
            return str(texts[0])
        except Exception as error:  # noqa: BLE001 - a template raises what it likes
            return error

    def render_calls(messages: list[dict[str, Any]]) -> str | Exception:
        text = render(messages)
        if not is_written(text, messages):
            for form, keep_null in wire_forms(messages, dialog.messages):
                written = render(form, keep_null=keep_null)
                if is_written(written, messages) and has_calls(written, messages):
                    return written
        return text

    messages = decoded(dialog.messages)
    text = render_calls(messages)
    contents = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    parts = [part for content in contents for part in content]
    if parts and not (isinstance(text, str) and reads_parts(text, parts)):
        return render_calls([joined(message) for message in messages])
    return text


def decoded(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copy messages as `check_messages` returns them, for a side that does not decode.

    An empty list of tool calls is left out, a call has its type, and arguments that are a JSON object in a
    string are that object.
    """
    copied: list[dict[str, Any]] = json.loads(json.dumps(messages))
    for message in copied:
        if message.get("tool_calls") == []:
            del message["tool_calls"]
        for call in message.get("tool_calls") or ():
            if "type" not in call:  # in the order of OpenAI's dumps
                function = call.pop("function")
                call |= {"type": "function", "function": function}
            try:
                arguments = json.loads(call["function"]["arguments"])
            except (TypeError, ValueError):
                continue
            if isinstance(arguments, dict):
                call["function"]["arguments"] = arguments
    return copied


def calls_in(messages: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The functions of all tool calls."""
    return [call["function"] for message in messages for call in message.get("tool_calls") or ()]


def is_written(text: str | Exception, messages: Sequence[Mapping[str, Any]]) -> bool:
    """True if `text` is a rendering without arguments of calls in Python's notation."""
    objects = [call["arguments"] for call in calls_in(messages) if isinstance(call["arguments"], dict)]
    return isinstance(text, str) and not any(given and str(given) in text for given in objects)


def has_calls(text: str | Exception, messages: Sequence[Mapping[str, Any]]) -> bool:
    """True if `text` is a rendering with the names of all calls."""
    return isinstance(text, str) and all(call["name"] in text for call in calls_in(messages))


def wire_forms(
    messages: Sequence[dict[str, Any]], given: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[list[dict[str, Any]], bool]]:
    """Dialogs with calls as a server gets them, for a template that needs that, and whether to keep null.

    Arguments are JSON in a string, and calls without a content have null, or an empty one.

    Args:
        messages: The dialog as `decoded` returns it.
        given: The same dialog before.
    """
    wire = [
        call["arguments"]
        if isinstance(call["arguments"], str)
        else json.dumps(call["arguments"], ensure_ascii=False)
        for call in calls_in(given)
    ]
    for content in ("missing", None, "") if wire else ():
        for encode in (False, True):
            copied: list[dict[str, Any]] = json.loads(json.dumps(messages))
            for message in copied:
                if message.get("tool_calls") and message.get("content") is None and content != "missing":
                    message["content"] = content
                elif message.get("content", "") is None:
                    del message["content"]
            for call, text in zip(calls_in(copied), wire, strict=True):
                if encode and isinstance(call["arguments"], dict):
                    call["arguments"] = text
            yield copied, content is None


def reads_parts(text: str, parts: Sequence[Mapping[str, str]]) -> bool:
    """True if `text` has the texts of all parts, and not the list as Python or JSON writes it."""
    listed = "'type': 'text'" in text or '"type": "text"' in text
    return not listed and all(part["text"].strip() in text for part in parts)


def joined(message: dict[str, Any]) -> dict[str, Any]:
    """`message` with the text of its parts as content."""
    parts = message.get("content")
    return (
        {**message, "content": "".join(part["text"] for part in parts)}
        if isinstance(parts, list)
        else message
    )


def excerpts(here: str | Exception, there: str | Exception) -> tuple[str, str]:
    """Both renderings around their first difference; an error as it is."""
    start, end = 0, None
    if isinstance(here, str) and isinstance(there, str):
        pairs = enumerate(zip(here, there, strict=False))
        shorter = min(len(here), len(there))
        at = next((index for index, (one, other) in pairs if one != other), shorter)
        start, end = max(0, at - CONTEXT), at + CONTEXT
    shown = [
        f"[{start}:] {text[start:end]!r}"[:300] if isinstance(text, str) else f"refused: {text!r:.300}"
        for text in (here, there)
    ]
    return shown[0], shown[1]


def _load_ours(folder: Path, tokens: Mapping[str, str], chosen: str | None) -> ChatTemplate:
    template = load_template({"path": folder, "chat_template": chosen, "special_tokens": tokens})
    assert template is not None
    return template


def _load_theirs(folder: Path, tokens: Mapping[str, Any]) -> Any:
    """The model's tokenizer in transformers; its class is the general one where its own needs more files."""
    from jinja2 import TemplateSyntaxError
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file():
        (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **tokens)
    except Exception:  # noqa: BLE001 - each class fails in its own way
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, **tokens)
    tokenizer.get_chat_template()  # an error if there is none
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    except TemplateSyntaxError:
        raise
    except Exception:  # noqa: BLE001 - it compiles, and refuses this dialog
        return tokenizer
    return tokenizer
