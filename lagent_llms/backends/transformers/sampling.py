"""Choose the next token of one request with the logits processors of transformers and a generator of its own.

The state of torch's global generators is neither read nor changed.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any

import torch
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
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

    The filters apply in the order of transformers: biases and penalties, temperature, top_k, top_p, min_p.

    Args:
        params: How to decode.
        prompt_length: Number of tokens of the prompt.
        end_ids: Tokens that end the answer.

    Attributes:
        plain: Whether it only takes the best token.
    """

    def __init__(self, params: GenerationParams, prompt_length: int, end_ids: Collection[int]) -> None:
        self._penalties, self._filters = LogitsProcessorList(), LogitsProcessorList()
        if params.logit_bias:
            self._penalties.append(_Bias(params.logit_bias))
        if params.min_new_tokens and end_ids:
            self._penalties.append(
                MinNewTokensLengthLogitsProcessor(prompt_length, params.min_new_tokens, sorted(end_ids))
            )
        if params.repetition_penalty != 1:
            self._penalties.append(RepetitionPenaltyLogitsProcessor(float(params.repetition_penalty)))
        if params.frequency_penalty or params.presence_penalty:
            frequency, presence = params.frequency_penalty or 0.0, params.presence_penalty or 0.0
            self._penalties.append(_AnswerPenalty(prompt_length, frequency, presence))
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


class _Bias(LogitsProcessor):
    """Adds to the logits of some tokens."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._ids, self._values = list(bias), list(bias.values())

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        scores[:, self._ids] += torch.tensor(self._values, dtype=scores.dtype, device=scores.device)
        return scores


class _AnswerPenalty(LogitsProcessor):
    """Lowers the logits of the tokens of the answer, for each time (frequency) and once (presence)."""

    def __init__(self, prompt_length: int, frequency: float, presence: float) -> None:
        self._prompt_length, self._frequency, self._presence = prompt_length, frequency, presence

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        counts = torch.bincount(input_ids[0, self._prompt_length :], minlength=scores.shape[-1])
        return scores - self._frequency * counts - self._presence * (counts > 0)
