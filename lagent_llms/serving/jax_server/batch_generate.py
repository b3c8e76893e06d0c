"""Rows of token ids continued by an engine, as a generation function would."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np

from ...jax_engine import Engine, SamplingParams, TokenEvent

__all__ = ["continue_rows"]


def continue_rows(engine: Engine, input_ids: Any, attention_mask: Any, params: SamplingParams) -> Any:
    """New tokens of each row, (B, max_new_tokens) int32; what comes after an end token is that token.

    Args:
        engine: Computes the rows together.
        input_ids: Token ids (B, T), padded on either side.
        attention_mask: 1 where a token is real, (B, T).
        params: How to decode.
    """
    rows = [
        np.asarray(ids)[np.asarray(mask) > 0] for ids, mask in zip(input_ids, attention_mask, strict=True)
    ]
    events: list[queue.SimpleQueue[TokenEvent]] = [queue.SimpleQueue() for _ in rows]
    handles = [engine.submit(row.tolist(), params, told.put) for row, told in zip(rows, events, strict=True)]
    found = np.full((len(rows), params.max_new_tokens), min(engine.tokenizer.eos_ids, default=0), np.int32)
    try:
        for row, told in enumerate(events):
            place = 0
            while True:
                event = told.get()
                if event.error is not None:
                    raise event.error
                found[row, place : place + len(event.token_ids)] = event.token_ids
                place += len(event.token_ids)
                if event.finish_reason is not None:
                    break
    finally:
        for handle in handles:
            handle.cancel()
    return found
