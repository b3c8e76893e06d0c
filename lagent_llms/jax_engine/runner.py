"""The device side: weights, cache, and the two compiled calls, in as few shapes as possible.

Rows, prompt lengths and the used length of the cache are rounded up to buckets, so that a handful of graphs
serves all batches. A row that only fills a bucket repeats row 0: it computes and writes the same once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from . import graphs
from .config import ModelConfig
from .graphs import Inputs
from .model import Cache, ModelWeights, empty_cache
from .sampling import Logprobs, SampleRows, SamplingParams
from .sharding import CACHE, place

__all__ = ["Row", "Runner", "TokenLogprobs"]

#: A decode chunk is cut to about this many seconds, so that a slow model still streams smoothly.
_CHUNK_SECONDS = 0.15
_SMALLEST_PIECE, _SMALLEST_SPAN = 16, 64


class Row(NamedTuple):
    """One sequence in a call.

    Attributes:
        slot: Its row in the cache.
        start: How many places of the slot are valid.
        tokens: The tokens to compute now: a piece of the prompt, or the last token generated.
        place: How many tokens it has generated before.
        limit: How many more tokens it may generate.
        seed: What its randomness comes from.
        params: How to decode.
        history: Prompt and answer so far, for the repetition penalty.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    place: int
    limit: int
    seed: int
    params: SamplingParams
    history: Callable[[], list[int]]


class TokenLogprobs(NamedTuple):
    """Log-probabilities at the place of one generated token, under the model before any filter.

    Attributes:
        token_id: The token.
        logprob: Its own.
        top: The most probable tokens as (token id, logprob), best first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def _bucket(size: int, smallest: int, largest: int) -> int:
    """The power of two from `smallest` on that holds `size`; cut at `largest`."""
    return min(max(smallest, 1 << (size - 1).bit_length()), largest)


class Runner:
    """Compiles and calls the graphs.

    Args:
        config: The network.
        weights: On the device.
        eos_ids: End tokens.
        slots: Sequences the cache holds.
        max_len: Tokens a sequence may have.
        chunk: Most decode steps in one call.
        piece: Most prompt tokens of one row in one call.
        dtype: Of the cache.
        mesh: What the cache is spread over, None for one device.
        progress: Told before a graph is compiled.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        eos_ids: Sequence[int],
        *,
        slots: int,
        max_len: int,
        chunk: int,
        piece: int,
        dtype: Any,
        mesh: Mesh | None,
        progress: Callable[[str], None],
    ) -> None:
        self._config, self._weights, self._mesh, self._dtype = config, weights, mesh, dtype
        self._eos = tuple(sorted(eos_ids))
        self._slots, self._max_len, self._chunk = slots, max_len, chunk
        self.piece = min(piece, _bucket(max_len, _SMALLEST_PIECE, max_len))
        self._progress = progress
        self._compiled: set[tuple[object, ...]] = set()
        self._step_seconds = 0.0
        self._cache = self._new_cache()

    def reset(self) -> None:
        """A new cache, after an error that may have lost the old one."""
        self._cache = self._new_cache()

    def prefill_shape(self, tokens: int) -> int:
        """The bucket a piece of `tokens` prompt tokens is computed in: a power of two or 3 / 4 of one."""
        power = _bucket(min(tokens, self.piece), _SMALLEST_PIECE, self.piece)
        between = power * 3 // 4
        return between if power > _SMALLEST_PIECE and tokens <= between else power

    def prefill(self, rows: Sequence[Row]) -> tuple[list[int], list[TokenLogprobs | None]]:
        """Compute pieces of prompts; the token that follows each, which counts when it was the last piece."""
        length = self.prefill_shape(max(len(row.tokens) for row in rows))
        # A bucket that would stick out of the cache begins earlier and computes some tokens again.
        rows = [self._moved_back(row, row.start + length - self._places) for row in rows]
        span = self._span(max(row.start for row in rows))
        filled, inputs = self._inputs(rows)
        ids = np.zeros((len(filled), length), np.int32)
        for index, row in enumerate(filled):
            ids[index, : len(row.tokens)] = row.tokens
        sizes = np.array([len(row.tokens) for row in filled], np.int32)
        wants = any(row.params.logprobs is not None for row in rows)
        self._announce("prefill", length, (len(filled), length, span, inputs.sample is None, wants))
        self._cache, tokens, logprobs = graphs.prefill(
            self._weights, self._cache, ids, sizes, inputs, config=self._config, span=span, wants=wants
        )
        chosen: list[int] = np.asarray(tokens)[: len(rows)].tolist()
        host = _to_host(logprobs)
        return chosen, [
            _logprobs_of(row.params, token, host, index)
            for index, (row, token) in enumerate(zip(rows, chosen, strict=True))
        ]

    def decode(self, rows: Sequence[Row]) -> tuple[list[list[int]], list[list[TokenLogprobs | None]]]:
        """A chunk of steps: the new tokens of each row, those after an end token or its limit included."""
        span = self._span(max(row.start for row in rows))
        filled, inputs = self._inputs(rows)
        last = np.array([row.tokens[-1] for row in filled], np.int32)
        steps = min(self._chunk, max(row.limit for row in rows))
        if self._step_seconds:
            steps = min(steps, max(1, int(_CHUNK_SECONDS / self._step_seconds)))
        wants = any(row.params.logprobs is not None for row in rows)
        is_new = self._announce("decode", len(filled), (len(filled), span, inputs.sample is None, wants))
        began = time.perf_counter()
        self._cache, tokens, logprobs, done = graphs.decode(
            self._weights,
            self._cache,
            last,
            np.int32(steps),
            inputs,
            config=self._config,
            eos=self._eos,
            span=span,
            chunk=self._chunk,
            wants=wants,
        )
        count = int(done)
        if not is_new:
            self._step_seconds = (time.perf_counter() - began) / max(count, 1)
        every: list[list[int]] = np.asarray(tokens)[: len(rows), :count].tolist()
        host = _to_host(logprobs)
        return every, [
            [_logprobs_of(row.params, token, host, (index, step)) for step, token in enumerate(new)]
            for index, (row, new) in enumerate(zip(rows, every, strict=True))
        ]

    @property
    def _places(self) -> int:
        """Places of a slot: a row that ends inside a chunk still writes the whole chunk."""
        return self._max_len + self._chunk

    def _new_cache(self) -> Cache:
        arrays = empty_cache(self._config, self._slots, self._places, self._dtype)
        if self._mesh is None:
            return arrays
        return tuple(
            (place(self._mesh, CACHE, keys), place(self._mesh, CACHE, values)) for keys, values in arrays
        )

    def _span(self, used: int) -> int:
        """How much of the cache a call looks at: 0, or a bucket of at least `used` places."""
        return _bucket(used, _SMALLEST_SPAN, self._max_len) if used else 0

    def _inputs(self, rows: Sequence[Row]) -> tuple[list[Row], Inputs]:
        """The rows filled up to a bucket, and their numbers."""
        filled = [*rows, *[rows[0]] * (_bucket(len(rows), 1, self._slots) - len(rows))]
        numbers = np.array(
            [(row.slot, row.start, row.place, row.limit, not row.params.ignore_eos) for row in filled],
            np.int32,
        )
        penalties = [row.params.repetition_penalty for row in filled]
        if all(row.params.temperature == 0 for row in rows) and set(penalties) == {1.0}:
            return filled, Inputs(numbers, None)
        vocab = self._config.vocab_size
        seen = None
        if set(penalties) != {1.0}:
            seen = np.zeros((len(filled), vocab), bool)
            for index, row in enumerate(filled):
                if row.params.repetition_penalty != 1.0:
                    seen[index, row.history()] = True
        settings = [row.params for row in filled]
        return filled, Inputs(
            numbers,
            SampleRows(
                temperature=np.array([item.temperature for item in settings], np.float32),
                top_k=np.array([min(item.top_k or vocab, vocab) for item in settings], np.int32),
                top_p=np.array([item.top_p for item in settings], np.float32),
                min_p=np.array([item.min_p or 0.0 for item in settings], np.float32),
                penalty=np.array(penalties, np.float32),
                key=np.array([(row.seed >> 32, row.seed & 0xFFFFFFFF) for row in filled], np.uint32),
                seen=seen,
            ),
        )

    @staticmethod
    def _moved_back(row: Row, excess: int) -> Row:
        """`row` beginning `excess` tokens earlier, when that is more than 0."""
        if excess <= 0:
            return row
        start = row.start - excess
        return row._replace(start=start, tokens=row.history()[start : row.start + len(row.tokens)])

    def _announce(self, kind: str, size: int, shape: tuple[object, ...]) -> bool:
        """Tell `progress` about a graph that is new; whether it is."""
        if new := (kind, *shape) not in self._compiled:
            self._compiled.add((kind, *shape))
            self._progress(f"compiling {kind} {size}")
        return new


def _to_host(logprobs: Logprobs | None) -> Logprobs | None:
    return None if logprobs is None else Logprobs(*(np.asarray(part) for part in logprobs))


def _logprobs_of(
    params: SamplingParams, token: int, logprobs: Logprobs | None, where: Any
) -> TokenLogprobs | None:
    """What a request asked for at one place, from the arrays of the whole batch."""
    if params.logprobs is None or logprobs is None:
        return None
    ids, values = logprobs.top_ids[where][: params.logprobs], logprobs.top[where][: params.logprobs]
    return TokenLogprobs(
        token,
        float(logprobs.chosen[where]),
        tuple((int(index), float(value)) for index, value in zip(ids, values, strict=True)),
    )
