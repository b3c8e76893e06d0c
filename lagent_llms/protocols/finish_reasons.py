"""The words of servers for the end of an answer, as our finish reasons. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ..schema import FinishReason

__all__ = ["REASONS", "is_unfinished", "known_reason"]

_WORDS: Mapping[FinishReason, str] = {
    "stop": "stop eos eos_token end_id stop_sequence stop_words stop_token end_turn end complete completed",
    "length": "length max_tokens max_length max_new_tokens max_output_tokens model_length",
    "tool_calls": "tool_calls tool_call tool_use function_call",
}
#: The words that are known, in lower case.
REASONS = {word: reason for reason, words in _WORDS.items() for word in words.split()}
#: Parts of the words for an answer that is not complete.
_FAILURES = ("abort", "cancel", "content_filter", "error", "fail", "insufficient")


def is_unfinished(word: str) -> bool:
    """Whether `word` says that the answer goes on."""
    return word.lower() in ("", "none", "null", "not_finished")


def known_reason(word: str) -> FinishReason | None:
    """Return the finish reason that `word` stands for, 'stop' if it is unknown; None if it is a failure."""
    if reason := REASONS.get(word):
        return reason
    word = word.lower()
    if word not in REASONS and any(part in word for part in _FAILURES):
        return None
    return REASONS.get(word, "stop")
