"""Continue a padded batch of token ids with the engine, as a generation function does."""

from __future__ import annotations

import queue
from typing import Any

import numpy as np

from ...jax_engine import Engine, SamplingParams, TokenEvent

__all__ = ["generate_batch"]


def generate_batch(engine: Engine, input_ids: Any, attention_mask: Any, params: SamplingParams) -> Any:
    """Generate new tokens for each row; after a row's end token its padding is an end token.

    Args:
        engine: Decodes the rows together.
        input_ids: Token ids (B, T), padded on either side.
        attention_mask: 1 for a token, 0 for padding, (B, T).
        params: How to decode.

    Returns:
        Token ids, (B, ``params.max_new_tokens``) int32.
    """
    prompts = [
        np.asarray(ids)[np.asarray(mask) > 0] for ids, mask in zip(input_ids, attention_mask, strict=True)
    ]
    queues: list[queue.SimpleQueue[TokenEvent]] = [queue.SimpleQueue() for _ in prompts]
    handles = [
        engine.submit(prompt.tolist(), params, events.put)
        for prompt, events in zip(prompts, queues, strict=True)
    ]
    new_ids = np.full(
        (len(prompts), params.max_new_tokens), min(engine.tokenizer.eos_ids, default=0), np.int32
    )
    try:
        for row, events in enumerate(queues):
            length = 0
            while True:
                event = events.get()
                if event.error is not None:
                    raise event.error
                new_ids[row, length : length + len(event.token_ids)] = event.token_ids
                length += len(event.token_ids)
                if event.finish_reason is not None:
                    break
    finally:
        for handle in handles:
            handle.cancel()
    return new_ids
