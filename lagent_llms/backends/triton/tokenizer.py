"""A local tokenizer, for servers that do not count tokens: a tokenizer.json, or any object with `encode`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import ConfigError, InvalidArgument, MissingDependency
from ...protocols.marked_text import MarkedTextEncoder

__all__ = ["LocalTokenizer"]


class LocalTokenizer:
    """Encodes and decodes the tokens of a model.

    Args:
        tokenizer: A tokenizer.json, its directory, or an object with ``encode(text)`` (from transformers or
            tokenizers, or any other), and ``decode(ids, skip_special_tokens=…)`` if `decode` is used.

    Attributes:
        marked: Encodes prompts with escaped special tokens.

    Raises:
        InvalidArgument: It is none of these.
        ConfigError: The file cannot be read as a tokenizer.
        MissingDependency: It is a file, and the package tokenizers is not installed.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._bos = self._eos = ""
        if isinstance(tokenizer, (str, os.PathLike)):
            tokenizer = self._load(Path(tokenizer))
        elif not callable(getattr(tokenizer, "encode", None)):
            raise InvalidArgument(
                f"tokenizer={tokenizer!r}: allowed is a tokenizer.json, its directory, an object with encode",
                argument="tokenizer",
            )
        else:
            self._bos = getattr(tokenizer, "bos_token", None) or ""
            self._eos = getattr(tokenizer, "eos_token", None) or ""
        self._tokenizer = tokenizer
        self._encode: Callable[..., Any] = tokenizer.encode
        self.marked = MarkedTextEncoder(tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a prompt, with a BOS if the model's tokenizer adds one, but never two.

        The prompt may hold `templates.injection.MARK`.
        """
        ids = self.marked.encode(text.removeprefix(self._bos), lambda text: _ids(self._encode(text)))
        bos = self.special("<BOS>")
        return bos + ids if self._bos and text.startswith(self._bos) and ids[:1] != bos else ids

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        """Return the text of token ids."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))

    @property
    def decodes(self) -> bool:
        """Whether it can `decode`; an object that has only `encode` cannot."""
        return callable(getattr(self._tokenizer, "decode", None))

    def special(self, word: str) -> list[int]:
        """Return the ids of a special token, [] if there is none; '<BOS>' and '<EOS>' are the model's own."""
        token = {"<BOS>": self._bos, "<EOS>": self._eos}.get(word, word)
        if not token:
            return []
        find = getattr(self._tokenizer, "token_to_id", None) or getattr(
            self._tokenizer, "convert_tokens_to_ids", None
        )
        index = None if find is None else find(token)
        return [index] if isinstance(index, int) else []

    def _load(self, path: Path) -> Any:
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            from tokenizers import Tokenizer  # here: other tokenizers need no package
        except ModuleNotFoundError as error:
            raise MissingDependency.of("tokenizers", "triton") from error
        if not file.is_file():
            raise ConfigError(
                f"tokenizer={str(path)!r}: no such file, and no directory with a tokenizer.json"
            )
        settings = file.with_name("tokenizer_config.json")
        try:
            found: Any = Tokenizer.from_str(file.read_text(encoding="utf-8"))
            config = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
        except Exception as error:  # the tokenizers package raises plain Exception
            raise ConfigError(f"tokenizer={str(path)!r}: {error}") from error
        found.no_truncation()
        found.no_padding()
        self._bos, self._eos = (_text(config.get(name)) for name in ("bos_token", "eos_token"))
        if config.get("add_bos_token") is True and self._bos:
            return _WithBOS(found, self._bos)
        return found


class _WithBOS:
    """A tokenizer whose BOS is named in tokenizer_config.json only."""

    def __init__(self, tokenizer: Any, bos: str) -> None:
        self._tokenizer, self._bos = tokenizer, tokenizer.token_to_id(bos)
        self.decode, self.token_to_id = tokenizer.decode, tokenizer.token_to_id

    def encode(self, text: str) -> list[int]:
        ids = _ids(self._tokenizer.encode(text))
        return ids if ids[:1] == [self._bos] else [self._bos, *ids]


def _ids(encoded: Any) -> list[int]:
    return list(getattr(encoded, "ids", encoded))


def _text(value: Any) -> str:
    return (
        str(value.get("content", "")) if isinstance(value, dict) else value if isinstance(value, str) else ""
    )
