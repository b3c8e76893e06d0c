"""Grammars of `response_format`, compiled by llguidance: which tokens an answer may go on with.

For engines in this process: `GrammarCompiler` compiles a checked value for a model's tokenizer, `Grammar`
follows one answer.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import validators
from ..errors import InvalidArgument, LLMError, MissingDependency
from .formats import kind_of, regex_of, schema_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Grammar", "GrammarCompiler"]

#: The white space of JSON as Python's json.dumps writes it. Free white space would let a model write
#: spaces without end, and would leave less text that only one continuation is allowed for.
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
#: Compiled grammars to keep: requests repeat them.
_KEPT = 32


class Grammar:
    """The state of one constrained answer. Not safe for use by two threads at a time.

    Args:
        matcher: A matcher of llguidance that has consumed nothing.
        end_ids: End tokens.
    """

    def __init__(self, matcher: Any, end_ids: Collection[int]) -> None:
        self._matcher, self._end_ids = matcher, tuple(end_ids)

    @property
    def is_complete(self) -> bool:
        """Whether nothing but an end token may follow, or an end token was accepted."""
        stopped: bool = self._matcher.is_stopped()
        return stopped

    def accept(self, tokens: Sequence[int]) -> int:
        """Go on by the first of `tokens` that the grammar allows, an end token included.

        Returns:
            Number of accepted tokens.

        Raises:
            LLMError: The grammar became too complex for the answer.
        """
        accepted: int = self._matcher.try_consume_tokens(list(tokens))
        self._check()
        return accepted

    def accept_forced(self, limit: int) -> list[int]:
        """Go on by the tokens without an alternative, at most `limit`, and return them; no end token.

        Raises:
            LLMError: The grammar became too complex for the answer.
        """
        forced: list[int] = self._matcher.compute_ff_tokens()[: max(limit, 0)]
        end = next((index for index, token in enumerate(forced) if token in self._end_ids), len(forced))
        return forced[: self.accept(forced[:end])]

    def fill_mask(self, mask: NDArray[np.int32], *, may_end: bool) -> None:
        """Write which tokens may follow.

        Args:
            mask: (V / 32, rounded up) int32; token i is bit i % 32 of item i // 32.
            may_end: False forbids end tokens.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if not may_end:
            bits = mask.view("uint32")
            for token in self._end_ids:
                bits[token // 32] &= ~(1 << token % 32) & 0xFFFFFFFF

    def _check(self) -> None:
        if self._matcher.is_error():
            raise LLMError(f"response_format: the grammar failed: {self._matcher.get_error()}"[:300])


class GrammarCompiler:
    """Compiles constraints for a tokenizer; safe for use by several threads.

    Args:
        tokenizer_json: Returns the text of tokenizer.json; called once, by the first use.
        vocab_size: Number of the model's logits.
        end_ids: End tokens.
    """

    def __init__(self, tokenizer_json: Callable[[], str], vocab_size: int, end_ids: Collection[int]) -> None:
        self._tokenizer_json, self._vocab_size, self._end_ids = tokenizer_json, vocab_size, sorted(end_ids)
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._matchers: OrderedDict[str, Any] = OrderedDict()

    def compile(self, constraint: Mapping[str, Any]) -> Grammar:
        """Compile a checked `response_format`; one that was compiled recently costs nothing.

        Raises:
            InvalidArgument: It cannot be compiled.
            MissingDependency: llguidance is not installed.
        """
        try:
            from llguidance import LLMatcher, LLTokenizer
        except ModuleNotFoundError as error:
            raise MissingDependency.of(str(error.name), "jax") from error
        text = _grammar_text(LLMatcher, constraint)
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = LLTokenizer(
                    self._tokenizer_json(), n_vocab=self._vocab_size, eos_token=self._end_ids or None
                )
            matcher = self._matchers.get(text)
        if matcher is None:  # without the lock: others need not wait for this one
            matcher = LLMatcher(self._tokenizer, text, log_level=0)
            if matcher.is_error():
                raise _refusal(constraint, matcher.get_error())
        with self._lock:
            self._matchers[text] = matcher
            self._matchers.move_to_end(text)
            if len(self._matchers) > _KEPT:
                self._matchers.popitem(last=False)
            return Grammar(matcher.deep_copy(), self._end_ids)


def _grammar_text(compiler: Any, constraint: Mapping[str, Any]) -> str:
    kind = kind_of(constraint)
    try:
        if kind in ("json", "schema"):
            schema = json.dumps(schema_of(constraint))
            return str(compiler.grammar_from_json_schema(schema, overrides=_JSON_STYLE))
        if kind in ("regex", "choice"):
            return str(compiler.grammar_from_regex(regex_of(constraint)))
    except (ValueError, RecursionError) as error:
        raise _refusal(constraint, str(error)) from error
    raise InvalidArgument(
        f"response_format: the type {validators.shown(constraint.get('type'))} is not supported; allowed are "
        "'json_object', 'json_schema', 'regex_schema' and 'choice'",
        argument="response_format",
    )


def _refusal(constraint: Mapping[str, Any], reason: str) -> InvalidArgument:
    reason = " ".join(reason.split())
    return InvalidArgument(
        f"response_format={validators.shown(constraint)} cannot be compiled: {reason}"[:600],
        argument="response_format",
    )
