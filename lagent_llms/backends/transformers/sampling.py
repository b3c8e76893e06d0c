"""Choose the next token of one request with the logits processors of transformers and a generator of its own.

The state of torch's global generators is neither read nor changed.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ...core.token_events import TokenLogprobs
from ...params import GenerationParams

__all__ = ["Sampler"]

#: Temperatures below it are this one: a float32 holds them, and the best token takes all probability.
_LOWEST_TEMPERATURE = 1e-30
_seeds = random.SystemRandom()


class Sampler:
    """Chooses the tokens of one request.

    The filters apply in the order of transformers: repetition penalty, temperature, top_k, top_p, min_p.

    Args:
        params: How to decode.

    Attributes:
        plain: Whether it only takes the best token.
    """

    def __init__(self, params: GenerationParams) -> None:
        self._penalties, self._filters = LogitsProcessorList(), LogitsProcessorList()
        if params.repetition_penalty != 1:
            self._penalties.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
        if params.temperature != 1:
            temperature = max(float(params.temperature), _LOWEST_TEMPERATURE)
            self._filters.append(TemperatureLogitsWarper(temperature))
        if params.top_k is not None:
            self._filters.append(TopKLogitsWarper(params.top_k))
        if params.top_p < 1:
            self._filters.append(TopPLogitsWarper(float(params.top_p)))
        if params.min_p:
            self._filters.append(MinPLogitsWarper(float(params.min_p)))
        self._greedy = params.temperature == 0
        self._logprobs = params.logprobs
        self._seed = _seeds.getrandbits(63) if params.seed is None else params.seed
        self._generator: Any = None
        self.plain = self._greedy and not self._penalties and self._logprobs is None

    def choose(self, context: Any, scores: Any) -> tuple[int, tuple[TokenLogprobs, ...]]:
        """Choose a token.

        Args:
            context: Token ids of prompt and answer so far, (1, T).
            scores: Logits, (1, V) float32.

        Returns:
            The token, and its log-probabilities if they are requested.
        """
        adjusted = self._penalties(context, scores.clone())
        if self._greedy:
            token = int(adjusted.argmax())
        else:
            if self._generator is None:
                self._generator = torch.Generator(scores.device).manual_seed(self._seed)
            highest = adjusted.amax(-1, keepdim=True)  # a low temperature must not make infinite logits
            probabilities = self._filters(context, adjusted - highest).softmax(-1)
            token = int(torch.multinomial(probabilities, 1, generator=self._generator))
        if self._logprobs is None:
            return token, ()
        logprobs = scores[0].log_softmax(-1)
        values, ids = logprobs.topk(min(self._logprobs, len(logprobs)))
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        return token, (TokenLogprobs(token, float(logprobs[token]), top),)
