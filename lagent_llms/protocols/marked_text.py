"""Encode prompts with escaped special tokens: those become plain text, the template's own stay special."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from ..templates.injection import MARK, without_marks
from ..templates.marks import looks_like_mark

__all__ = ["MarkedTextEncoder", "longest_token", "plain_ids"]

#: Texts of at least this many characters are encoded without holding the interpreter.
_LONG_TEXT = 2_000
#: Most bytes of a text that NFC turns into one byte.
_COMPOSED = 3


class _Renamed(NamedTuple):
    """A copy of a tokenizer whose special tokens have a secret prefix.

    A text without the prefix cannot become special; everything else is encoded as by the tokenizer.

    Attributes:
        prefix: The prefix.
        tokenizer: The copy.
        pattern: Finds special tokens without the prefix.
        ids: Their ids.
    """

    prefix: str
    tokenizer: Any
    pattern: re.Pattern[str]
    ids: frozenset[int]


class MarkedTextEncoder:
    """Encodes text in which `MARK` breaks up what must not become a special token.

    Args:
        tokenizer: A tokenizer of the package tokenizers, or one that is built on it (a fast one of
            transformers); for any other `special_tokens` is ().

    Attributes:
        special_tokens: The tokenizer's special tokens; () if it cannot encode them as plain text.
        normalize: What the tokenizer does to a text before it looks for special tokens; None for nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        for name in ("backend_tokenizer", "_tokenizer"):  # transformers' wrapper; ours
            tokenizer = getattr(tokenizer, name, tokenizer)
        self._fast = tokenizer if callable(getattr(tokenizer, "get_added_tokens_decoder", None)) else None
        added = [] if self._fast is None else list(self._fast.get_added_tokens_decoder().values())
        # Others of a vocabulary are ordinary text (<table>, "\n\n").
        special = [token for token in added if token.special or looks_like_mark(token.content)]
        self.special_tokens: tuple[str, ...] = tuple(token.content for token in special)
        normalizer: Any = getattr(self._fast, "normalizer", None)
        folds = normalizer is not None and any(token.normalized for token in special)
        self.normalize: Callable[[str], str] | None = normalizer.normalize_str if folds else None

    def encode(self, text: str, plain: Callable[[str], list[int]]) -> list[int]:
        """The token ids of `text`.

        Args:
            text: The text; it may hold `MARK`.
            plain: Encodes a text without `MARK`; it may put special tokens (BOS) before and after.
        """
        if MARK not in text:
            return plain(text)
        ids = self._encode_marked(text, plain)
        return plain(without_marks(text)) if ids is None else ids

    def _encode_marked(self, text: str, plain: Callable[[str], list[int]]) -> list[int] | None:
        """As `encode`; None if a content would become a special token nevertheless."""
        if self._fast is None or (renamed := self._renamed) is None:
            return None
        text, count = renamed.pattern.subn(lambda token: renamed.prefix + token[0], text)
        ids = plain_ids(renamed.tokenizer, text.replace(MARK, ""))
        if sum(index in renamed.ids for index in ids) != count:
            return None
        whole, inner = plain("a"), self._fast.encode("a", add_special_tokens=False).ids
        for start in range(len(whole)):
            if whole[start : start + len(inner)] == inner:
                return [*whole[:start], *ids, *whole[start + len(inner) :]]
        return None

    @cached_property
    def _renamed(self) -> _Renamed | None:
        """The renamed copy of the tokenizer; None if there can be none."""
        if self._fast is None or not self.special_tokens:
            return None
        from tokenizers import Tokenizer  # here: not every backend that decodes text needs the package

        prefix = f"x{secrets.token_hex(12)}"
        try:
            data = _rename(json.loads(self._fast.to_str()), prefix, frozenset(self.special_tokens))
            tokenizer = Tokenizer.from_str(json.dumps(data))
        except Exception:  # noqa: BLE001  (the package raises plain Exception; the token is then broken up)
            return None
        ids: list[Any] = [tokenizer.token_to_id(prefix + token) for token in self.special_tokens]
        if ids != [*map(self._fast.token_to_id, self.special_tokens)]:
            return None
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)))
        return _Renamed(prefix, tokenizer, pattern, frozenset(ids))


def _rename(data: dict[str, Any], prefix: str, special: frozenset[str]) -> dict[str, Any]:
    """The JSON of a tokenizer with a prefix before its special tokens, in the model's vocabulary too."""

    def name(token: Any) -> Any:
        return prefix + token if token in special else token

    for token in data["added_tokens"]:
        token["content"] = name(token["content"])
    model = data["model"]
    if isinstance(vocabulary := model.get("vocab"), dict):
        model["vocab"] = {name(token): index for token, index in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[name(token), score] for token, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = name(model["unk_token"])
    if isinstance(merges := model.get("merges"), list):
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        model["merges"] = [
            pair for pair, of in zip(merges, pairs, strict=True) if special.isdisjoint((*of, "".join(of)))
        ]
    return data


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The token ids of `text`, without those that a tokenizer of the package tokenizers puts around it.

    Other threads run while a long text is encoded: `encode` holds the interpreter for seconds a megabyte,
    `encode_batch_fast` does not.
    """
    if len(text) < _LONG_TEXT:
        found = tokenizer.encode(text, add_special_tokens=False)
    else:
        found = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0]
    ids: list[int] = found.ids
    return ids


def longest_token(tokenizer: Any) -> int | None:
    """Most bytes of text that one token stands for; None if that is not known.

    It is not where a token stands for unknown text of any length, or where a normalizer shortens the text.

    Args:
        tokenizer: A tokenizer of the package tokenizers.
    """
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    model = data["model"]
    steps = [data.get("normalizer"), data.get("pre_tokenizer"), data.get("decoder")]
    parts = [part for step in steps for part in _parts(step)]
    of_bytes = any(part["type"] == "ByteLevel" for part in parts)
    if model.get("type") not in ("BPE", "Unigram") or not (of_bytes or model.get("byte_fallback")):
        return None
    factor = 1
    for part in _parts(data.get("normalizer")):
        if part["type"] == "NFC":
            factor *= _COMPOSED
        elif part["type"] == "Replace":
            replaced = part["pattern"].get("String")
            if replaced is None or len(replaced.encode()) > len(part["content"].encode()):
                return None
        elif part["type"] not in ("Prepend", "ByteLevel"):
            return None
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    # A character of a byte-level vocabulary stands for one byte; elsewhere the count is a little too high.
    sizes = [len(token if of_bytes else token.encode()) for token in vocabulary]
    return factor * max(*sizes, *(len(token.encode()) for token in added))


def _parts(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a tokenizer's component, those of a sequence included."""
    if step is None:
        return []
    for name in ("normalizers", "pretokenizers", "decoders"):
        if name in step:
            return [part for inner in step[name] for part in _parts(inner)]
    return [step]
