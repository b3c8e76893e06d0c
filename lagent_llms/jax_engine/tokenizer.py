"""The tokenizer of a checkpoint: encode, decode, and its BOS and end tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from ..errors import ModelLoadError
from ..protocols.detokenizer import Detokenizer
from ..protocols.marked_text import MarkedTextEncoder, longest_token, plain_ids
from .config import ModelConfig
from .settings import Settings, read_json

__all__ = ["Tokenizer"]


class Tokenizer:
    """Tokenizer of a checkpoint, a wrapper of ``tokenizers.Tokenizer``.

    Args:
        path: Checkpoint directory with tokenizer.json and optionally tokenizer_config.json,
            special_tokens_map.json and generation_config.json.
        config: The checkpoint's configuration, for special token ids that those files do not have.

    Attributes:
        bos_id: Id of the beginning-of-sequence token, None if there is none.
        bos_token: Text of the beginning-of-sequence token, None if there is none.
        eos_ids: Ids of the tokens that end an answer.
        add_bos: True if the model expects the beginning-of-sequence token before a text.
        vocab_size: Number of tokens, including added ones.
        marked: Encodes prompts with escaped special tokens.

    Raises:
        ModelLoadError: tokenizer.json is missing or cannot be read.
    """

    def __init__(self, path: Path, config: ModelConfig) -> None:
        file = path / "tokenizer.json"
        if not file.is_file():
            raise ModelLoadError(
                f"{path}: there is no tokenizer.json; make one with transformers: "
                "AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
            )
        try:
            self._fast = FastTokenizer.from_str(file.read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers package raises plain Exception
            raise ModelLoadError(f"{file}: {error}") from error
        self._fast.no_truncation()
        self._fast.no_padding()
        settings, special, generation = (
            read_json(path / name) if (path / name).is_file() else {}
            for name in ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
        )
        self.marked = MarkedTextEncoder(self._fast)
        self.vocab_size: int = self._fast.get_vocab_size(with_added_tokens=True)
        self.bos_id = self._special(settings, special, "bos_token")
        if self.bos_id is None:
            self.bos_id = config.bos_token_id
        self.bos_token = None if self.bos_id is None else self.token_text(self.bos_id) or None
        self.eos_ids = self._end_ids(settings, special, generation, config)
        self.add_bos = self.bos_id is not None and self._adds_bos(settings)
        self._special_ids = frozenset(
            index for index, token in self._fast.get_added_tokens_decoder().items() if token.special
        )
        self._decoder: dict[str, Any] = json.loads(self._fast.to_str()).get("decoder") or {}

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """Convert text to token ids; special tokens in the text become their ids, unless they are escaped.

        Args:
            text: Text; it may hold `templates.injection.MARK`.
            add_bos: Prepend the beginning-of-sequence token if the model expects one (`self.add_bos`); False
                (default) for templates that write it themselves.
        """
        ids = self.marked.encode(text, partial(plain_ids, self._fast))
        return [self.bos_id, *ids] if add_bos and self.add_bos and self.bos_id is not None else ids

    @cached_property
    def longest_token(self) -> int | None:
        """See `protocols.marked_text.longest_token`."""
        return longest_token(self._fast)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """Convert token ids to text; ids outside the vocabulary are skipped."""
        return self._fast.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def stream(self, skip_special_tokens: bool = False) -> Detokenizer:
        """Make an incremental decoder whose pieces, concatenated, equal the result of `decode`."""
        return Detokenizer(
            self._fast, self._decoder, self._special_ids if skip_special_tokens else frozenset()
        )

    def to_json(self) -> str:
        """The text of tokenizer.json."""
        text: str = self._fast.to_str()
        return text

    def token_text(self, token_id: int) -> str:
        """Vocabulary entry of a token id; '' for an unknown id."""
        return self._fast.id_to_token(token_id) or ""

    def token_id(self, token: str) -> int | None:
        """Id of a vocabulary entry, None if there is none."""
        index: int | None = self._fast.token_to_id(token)
        return index

    def _special(self, settings: dict[str, Any], special: dict[str, Any], name: str) -> int | None:
        if "added_tokens_decoder" not in settings:  # the files of transformers 4
            settings = {**settings, **special}
        value = settings.get(name) or special.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        return self.token_id(text) if isinstance(text, str) else None

    def _end_ids(
        self,
        settings: dict[str, Any],
        special: dict[str, Any],
        generation: dict[str, Any],
        config: ModelConfig,
    ) -> frozenset[int]:
        """End tokens, from the file with the highest priority in transformers' ``generate``."""
        ids = Settings(generation, "generation_config.json").token_ids("eos_token_id")
        if ids := ids or config.eos_token_ids:
            return frozenset(ids)
        end = self._special(settings, special, "eos_token")
        return frozenset() if end is None else frozenset([end])

    def _adds_bos(self, settings: dict[str, Any]) -> bool:
        if isinstance(settings.get("add_bos_token"), bool):
            return bool(settings["add_bos_token"])
        ids: list[int] = self._fast.encode("a", add_special_tokens=True).ids
        return ids[:1] == [self.bos_id]
