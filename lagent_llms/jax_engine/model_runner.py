"""Run the compiled graphs on batches of sequences; holds the weights and the KV cache.

Batch sizes, prompt lengths and the cached positions to read are rounded up to buckets, so that a few graphs
serve all batches. Row 0 is repeated to fill a bucket of rows: the copies compute and write the same values.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from numpy.typing import NDArray

from ..core.token_events import TokenLogprobs
from . import graphs
from .config import ModelConfig
from .graphs import BatchInputs
from .logit_adjustments import LogitAdjustments
from .model import KVCache, ModelWeights, init_kv_cache
from .sampling import Logprobs, SamplingParams, SamplingTensors
from .sharding import KV_CACHE, shard

__all__ = ["BatchRow", "ModelRunner"]

#: Target duration of a decode call in seconds, so that the stream of a slow model stays smooth.
_DECODE_SECONDS = 0.15
_MIN_PREFILL_BUCKET, _MIN_HISTORY_BUCKET = 16, 64
#: Numbers of tokens of a constrained answer that are computed at once, before those of prompts.
_STEP_BUCKETS = (1, 4)
#: Lengths of prompts for which `ModelRunner.warm_up` compiles graphs, in tokens: a short question, and one
#: with a system message. With their answers they may grow to 64 and 128 tokens.
_WARM_LENGTHS = (32, 96)


class BatchRow(NamedTuple):
    """One sequence of a batch.

    Attributes:
        slot: Slot in the KV cache.
        start: Number of tokens of the sequence in the cache.
        tokens: Token ids to compute: a chunk of the prompt, or the last generated token.
        num_generated: Number of tokens generated so far.
        limit: Largest number of tokens to generate from now on.
        is_long: True if the sequence is rotated with `Rope.long_frequencies`.
        seed: Seed of the sampling.
        params: Decoding parameters.
        history: Returns prompt and answer so far, for penalties.
        mask: For `prefill`, the tokens that may follow, see `graphs.BatchInputs`; None for all.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    num_generated: int
    limit: int
    is_long: bool
    seed: int
    params: SamplingParams
    history: Callable[[], list[int]]
    mask: NDArray[np.int32] | None = None


def _bucket(size: int, smallest: int, largest: int) -> int:
    """Round `size` up to a power of two, at least `smallest` and at most `largest`."""
    return min(max(smallest, 1 << (size - 1).bit_length()), largest)


class ModelRunner:
    """Compile and call the graphs.

    Args:
        config: The network.
        weights: Weights on the device.
        eos_ids: End tokens.
        slots: Number of sequences in the KV cache.
        max_len: Longest sequence, in tokens.
        max_steps: Largest number of decode steps per call.
        prefill_chunk: Largest number of prompt tokens per row and call.
        dtype: Type of the KV cache.
        mesh: Device mesh of the KV cache; None for a single device.
        progress: Called with a message before a graph is compiled.

    Attributes:
        prefill_chunk: The same, at most the bucket of `max_len`.
        on_compile: Called with True before a call that compiles a graph, and with False after it.
    """

    on_compile: Callable[[bool], None] = staticmethod(lambda begins: None)

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        eos_ids: Sequence[int],
        *,
        slots: int,
        max_len: int,
        max_steps: int,
        prefill_chunk: int,
        dtype: Any,
        mesh: Mesh | None,
        progress: Callable[[str], None],
    ) -> None:
        self._config, self._weights, self._mesh, self._dtype = config, weights, mesh, dtype
        self._eos = tuple(sorted(eos_ids))
        self._slots, self._max_len, self._max_steps = slots, max_len, max_steps
        self.prefill_chunk = min(prefill_chunk, _bucket(max_len, _MIN_PREFILL_BUCKET, max_len))
        self._progress = progress
        self._compiled: set[tuple[object, ...]] = set()
        self._step_seconds = 0.0
        self._cache = self._new_cache()

    def reset_cache(self) -> None:
        """Allocate a new KV cache after an error that may have invalidated the old one."""
        self._cache = self._new_cache()

    def warm_up(self, *, greedy: bool) -> None:
        """Compile the graphs of a first request of usual size; overwrites the KV cache.

        Few graphs, because each costs a quarter of a second even if it is found on disk.

        Args:
            greedy: True for a greedy request, False for a sampled one.
        """
        row = BatchRow(0, 0, [], 0, 1, False, 0, SamplingParams(temperature=0.0 if greedy else 1.0), list)
        for length in _WARM_LENGTHS:
            length = min(length, self._max_len - 1)
            self.prefill([row._replace(tokens=[0] * length)])
            self.decode([row._replace(start=length, tokens=[0])])

    def prefill_bucket(self, tokens: int) -> int:
        """Padded length of a chunk of `tokens` prompt tokens: a power of two, or 3 / 4 of one."""
        power = _bucket(min(tokens, self.prefill_chunk), _MIN_PREFILL_BUCKET, self.prefill_chunk)
        between = power * 3 // 4
        return between if power > _MIN_PREFILL_BUCKET and tokens <= between else power

    def step_bucket(self, tokens: int) -> int:
        """Padded length of `tokens` tokens of an answer, with which prompts must not be mixed."""
        return next((size for size in _STEP_BUCKETS if tokens <= size), self.prefill_bucket(tokens))

    def prefill(self, rows: Sequence[BatchRow]) -> tuple[list[int], list[TokenLogprobs | None]]:
        """Compute a chunk of each row's prompt, or of the newest tokens of constrained answers.

        Returns:
            The token sampled after each chunk and its log-probabilities; meaningful after the last chunk.
        """
        longest = max(len(row.tokens) for row in rows)
        is_step = all(row.num_generated and row.mask is not None for row in rows)
        length = self.step_bucket(longest) if is_step else self.prefill_bucket(longest)
        # A padded chunk that would exceed the slot starts earlier and computes some tokens again.
        rows = [self._start_earlier(row, row.start + length - self._slot_len) for row in rows]
        history_len = self._history_bucket(max(row.start for row in rows))
        padded, inputs = self._batch_inputs(rows)
        token_ids = np.zeros((len(padded), length), np.int32)
        for index, row in enumerate(padded):
            token_ids[index, : len(row.tokens)] = row.tokens
        lengths = np.array([len(row.tokens) for row in padded], np.int32)
        with_logprobs = any(row.params.logprobs is not None for row in rows)
        shape = (len(padded), length, history_len, *_variant(inputs), with_logprobs)
        with self._compiling("prefill", length, shape):
            self._cache, tokens, logprobs = graphs.prefill(
                self._weights,
                self._cache,
                token_ids,
                lengths,
                inputs,
                config=self._config,
                history_len=history_len,
                with_logprobs=with_logprobs,
            )
        sampled: list[int] = np.asarray(tokens)[: len(rows)].tolist()
        on_host = _to_host(logprobs)
        return sampled, [
            _logprobs_of(row.params, token, on_host, index)
            for index, (row, token) in enumerate(zip(rows, sampled, strict=True))
        ]

    def decode(self, rows: Sequence[BatchRow]) -> tuple[list[list[int]], list[list[TokenLogprobs | None]]]:
        """Run several decode steps.

        Returns:
            The new tokens of each row and their log-probabilities, including those after an end token or
            after the row's limit.
        """
        history_len = self._history_bucket(max(row.start for row in rows))
        padded, inputs = self._batch_inputs(rows)
        last_tokens = np.array([row.tokens[-1] for row in padded], np.int32)
        steps = min(self._max_steps, max(row.limit for row in rows))
        if self._step_seconds:
            steps = min(steps, max(1, int(_DECODE_SECONDS / self._step_seconds)))
        with_logprobs = any(row.params.logprobs is not None for row in rows)
        shape = (len(padded), history_len, *_variant(inputs), with_logprobs)
        began = time.perf_counter()
        with self._compiling("decode", len(padded), shape) as is_new:
            self._cache, tokens, logprobs, steps_run = graphs.decode(
                self._weights,
                self._cache,
                last_tokens,
                np.int32(steps),
                inputs,
                config=self._config,
                eos=self._eos,
                history_len=history_len,
                max_steps=self._max_steps,
                with_logprobs=with_logprobs,
            )
        count = int(steps_run)
        if not is_new:
            self._step_seconds = (time.perf_counter() - began) / max(count, 1)
        generated: list[list[int]] = np.asarray(tokens)[: len(rows), :count].tolist()
        on_host = _to_host(logprobs)
        return generated, [
            [_logprobs_of(row.params, token, on_host, (index, step)) for step, token in enumerate(new)]
            for index, (row, new) in enumerate(zip(rows, generated, strict=True))
        ]

    @property
    def mask_len(self) -> int:
        """Number of int32 items of `BatchRow.mask`."""
        return -(-self._config.vocab_size // 32)

    @property
    def _slot_len(self) -> int:
        """Positions of a slot: a row that ends during a decode call still writes `max_steps` positions."""
        return self._max_len + self._max_steps

    def _new_cache(self) -> KVCache:
        cache = init_kv_cache(self._config, self._slots, self._slot_len, self._dtype)
        if self._mesh is None:
            return cache
        return tuple(
            (shard(self._mesh, KV_CACHE, keys), shard(self._mesh, KV_CACHE, values)) for keys, values in cache
        )

    def _history_bucket(self, used: int) -> int:
        """Number of cached positions to read: 0, or a bucket of at least `used`."""
        return _bucket(used, _MIN_HISTORY_BUCKET, self._max_len) if used else 0

    def _batch_inputs(self, rows: Sequence[BatchRow]) -> tuple[list[BatchRow], BatchInputs]:
        """Pad the rows to a bucket and build their inputs."""
        padded = [*rows, *[rows[0]] * (_bucket(len(rows), 1, self._slots) - len(rows))]
        numbers = np.array(
            [
                (row.slot, row.start, row.num_generated, row.limit, not row.params.ignore_eos, row.is_long)
                for row in padded
            ],
            np.int32,
        )
        mask = None
        if any(row.mask is not None for row in rows):
            everything = np.full(self.mask_len, -1, np.int32)
            mask = np.stack([everything if row.mask is None else row.mask for row in padded])
        penalties = [row.params.repetition_penalty for row in padded]
        adjustments = self._adjustments(padded)
        if (
            all(row.params.temperature == 0 for row in rows)
            and set(penalties) == {1.0}
            and adjustments is None
        ):
            return padded, BatchInputs(numbers, None, mask)
        vocab = self._config.vocab_size
        seen = None
        if set(penalties) != {1.0}:
            seen = np.zeros((len(padded), vocab), bool)
            for index, row in enumerate(padded):
                if row.params.repetition_penalty != 1.0:
                    seen[index, row.history()] = True
        params = [row.params for row in padded]
        return padded, BatchInputs(
            numbers,
            SamplingTensors(
                temperature=np.array([item.temperature for item in params], np.float32),
                top_k=np.array([min(item.top_k or vocab, vocab) for item in params], np.int32),
                top_p=np.array([item.top_p for item in params], np.float32),
                min_p=np.array([item.min_p or 0.0 for item in params], np.float32),
                penalty=np.array(penalties, np.float32),
                key=np.array([(row.seed >> 32, row.seed & 0xFFFFFFFF) for row in padded], np.uint32),
                seen=seen,
                adjustments=adjustments,
            ),
            mask,
        )

    def _adjustments(self, rows: Sequence[BatchRow]) -> LogitAdjustments | None:
        """Build the adjustments of the rows; None if no row has any."""
        if not any(row.params.adjusts_logits for row in rows):
            return None
        vocab, params = self._config.vocab_size, [row.params for row in rows]
        bias, counts = np.zeros((len(rows), vocab), np.float32), np.zeros((len(rows), vocab), np.int32)
        for index, row in enumerate(rows):
            for token, value in (row.params.logit_bias or {}).items():
                bias[index, token] = value
            if row.num_generated and (row.params.frequency_penalty or row.params.presence_penalty):
                np.add.at(counts[index], row.history()[-row.num_generated :], 1)
        ends = np.zeros(vocab, bool)
        ends[list(self._eos)] = True
        least = [0 if item.ignore_eos else item.min_new_tokens or 0 for item in params]
        return LogitAdjustments(
            bias=bias,
            counts=counts,
            frequency=np.array([item.frequency_penalty or 0.0 for item in params], np.float32),
            presence=np.array([item.presence_penalty or 0.0 for item in params], np.float32),
            min_new_tokens=np.array(least, np.int32),
            ends=ends,
        )

    @staticmethod
    def _start_earlier(row: BatchRow, excess: int) -> BatchRow:
        """Extend `row.tokens` by `excess` cached tokens at the front, if that is positive."""
        if excess <= 0:
            return row
        start = row.start - excess
        return row._replace(start=start, tokens=row.history()[start : row.start + len(row.tokens)])

    @contextmanager
    def _compiling(self, kind: str, size: int, shape: tuple[object, ...]) -> Iterator[bool]:
        """Report the compilation of a new graph by the call within; the value is whether the graph is new."""
        if (kind, *shape) in self._compiled:
            yield False
            return
        self.on_compile(True)
        try:
            self._progress(f"compiling {kind} {size}")
            yield True
        finally:
            self.on_compile(False)
        self._compiled.add((kind, *shape))


def _variant(inputs: BatchInputs) -> tuple[bool, ...]:
    """What distinguishes the graphs for inputs of equal sizes."""
    sampling, masked = inputs.sampling, inputs.mask is not None
    if sampling is None:
        return masked, False, False, False
    return masked, True, sampling.seen is not None, sampling.adjustments is not None


def _to_host(logprobs: Logprobs | None) -> Logprobs | None:
    return None if logprobs is None else Logprobs(*(np.asarray(part) for part in logprobs))


def _logprobs_of(
    params: SamplingParams, token: int, logprobs: Logprobs | None, index: Any
) -> TokenLogprobs | None:
    """Extract the requested log-probabilities of one token from the arrays of the batch."""
    if params.logprobs is None or logprobs is None:
        return None
    ids, values = logprobs.top_ids[index][: params.logprobs], logprobs.top[index][: params.logprobs]
    return TokenLogprobs(
        token,
        float(logprobs.chosen[index]),
        tuple((int(token_id), float(value)) for token_id, value in zip(ids, values, strict=True)),
    )
