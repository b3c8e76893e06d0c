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

__all__ = ["MarkedTextEncoder"]


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
        ids: list[int] = renamed.tokenizer.encode(text.replace(MARK, ""), add_special_tokens=False).ids
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
