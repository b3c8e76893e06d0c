"""Schedule requests: queue, KV cache slots and prefix reuse. Bookkeeping only, no arrays.

A slot records the tokens whose keys and values it holds, also after its request has finished. A new request
reuses the longest prefix of them that its prompt shares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..structured.grammar import Grammar
from .sampling import SamplingParams

__all__ = ["Job", "Scheduler", "Slot", "common_prefix"]

Payload = TypeVar("Payload")

#: Shorter prefixes are not reused: below the smallest prefill bucket that saves no time.
_MIN_REUSED_TOKENS = 16


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix of two sequences; by bisection over slices, which compare in C."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(eq=False)
class Slot:
    """A slot of the KV cache, which holds one sequence.

    Attributes:
        index: Index of the slot in the cache.
        tokens: Tokens whose keys and values are valid, from position 0 on.
        last_used: Logical time of the last release.
        busy: True while a request uses the slot.
        is_long: True if the keys are rotated as those of long sequences.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    busy: bool = False
    is_long: bool = False


@dataclass(eq=False)
class Job(Generic[Payload]):
    """A request in the queue or in a slot.

    Attributes:
        prompt: Token ids of the prompt.
        params: Decoding parameters.
        seed: Seed of the sampling.
        payload: Data of the caller; the scheduler does not use it.
        limit: Largest number of tokens to generate, with the context limit taken into account.
        grammar: Constraint on the answer, None without one.
        output: Generated tokens.
        slot: Slot of the request, None while it waits.
        cached: Number of prompt tokens reused from the slot.
        cancelled: True after the caller cancelled the request.
        context: Tokens to compute in prefill: the prompt; after `Scheduler.switch_ropes` also the answer.
    """

    prompt: list[int]
    params: SamplingParams
    seed: int
    payload: Payload
    limit: int
    grammar: Grammar | None = None
    output: list[int] = field(default_factory=list)
    slot: Slot | None = None
    cached: int = 0
    cancelled: bool = False
    context: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.context = self.prompt

    @property
    def num_uncomputed(self) -> int:
        """Number of context tokens that are not computed yet."""
        return max(len(self.context) - len(self.assigned_slot.tokens), 0)

    @property
    def uncomputed(self) -> list[int]:
        """Tokens of prompt and answer that are not computed yet: in decoding at least the newest one."""
        done = len(self.assigned_slot.tokens)
        if done < len(self.prompt):
            return self.prompt[done:] + self.output
        return self.output[done - len(self.prompt) :]

    @property
    def length(self) -> int:
        """Number of tokens of prompt and answer so far."""
        return len(self.prompt) + len(self.output)

    @property
    def assigned_slot(self) -> Slot:
        """Slot of a running request."""
        assert self.slot is not None
        return self.slot


class Scheduler(Generic[Payload]):
    """The queue and the slots of the KV cache.

    Args:
        slots: Number of slots.
        rope_switch: `ModelConfig.rope_switch`.

    Attributes:
        waiting: Jobs without a slot, oldest first.
        running: Jobs with a slot, in order of admission.
    """

    def __init__(self, slots: int, rope_switch: int | None = None) -> None:
        self._slots = [Slot(index) for index in range(slots)]
        self._clock, self._rope_switch = 0, rope_switch
        self.waiting: deque[Job[Payload]] = deque()
        self.running: list[Job[Payload]] = []

    @property
    def prefilling(self) -> list[Job[Payload]]:
        """Running jobs whose prompt is not computed completely."""
        return [job for job in self.running if job.num_uncomputed]

    @property
    def decoding(self) -> list[Job[Payload]]:
        """Running jobs that have generated their first token."""
        return [job for job in self.running if not job.num_uncomputed]

    def admit(self) -> list[Job[Payload]]:
        """Assign free slots to waiting jobs, oldest first.

        Returns:
            The admitted jobs.
        """
        admitted = []
        while self.waiting and (free := [slot for slot in self._slots if not slot.busy]):
            job = self.waiting.popleft()
            is_long = self._is_long(job)
            slot, job.cached = self._select_slot(free, job.prompt, is_long)
            del slot.tokens[job.cached :]
            slot.busy, slot.is_long, job.slot = True, is_long, slot
            self.running.append(job)
            admitted.append(job)
        return admitted

    def switch_ropes(self) -> None:
        """Return jobs to prefill that became long sequences: all their keys are rotated otherwise."""
        for job in self.decoding:
            if self._is_long(job) and not job.assigned_slot.is_long:
                job.assigned_slot.is_long = True
                job.assigned_slot.tokens.clear()
                job.context = job.prompt + job.output

    def steps_left(self, job: Job[Payload]) -> int:
        """Number of tokens that a job may generate before it ends or becomes a long sequence."""
        left = job.limit - len(job.output)
        if self._rope_switch is None or job.assigned_slot.is_long:
            return left
        return min(left, self._rope_switch + 1 - job.length)

    def remove(self, predicate: Callable[[Job[Payload]], bool]) -> list[Job[Payload]]:
        """Remove all jobs, waiting or running, for which `predicate` is true, and free their slots.

        Returns:
            The removed jobs.
        """
        removed = [job for job in (*self.running, *self.waiting) if predicate(job)]
        for job in removed:
            if job.slot is None:
                self.waiting.remove(job)
            else:
                self.release(job)
        return removed

    def release(self, job: Job[Payload]) -> None:
        """Free the slot of a running job; the slot's tokens stay for reuse by later prompts."""
        self._clock += 1
        job.assigned_slot.busy, job.assigned_slot.last_used = False, self._clock
        self.running.remove(job)

    def invalidate_cache(self) -> None:
        """Forget the tokens of all slots, after the KV cache was lost."""
        for slot in self._slots:
            slot.tokens.clear()

    def _is_long(self, job: Job[Payload]) -> bool:
        return self._rope_switch is not None and job.length > self._rope_switch

    @staticmethod
    def _select_slot(free: list[Slot], prompt: list[int], is_long: bool) -> tuple[Slot, int]:
        """Select a slot for a prompt, and the number of its tokens to reuse; at least one is left to compute.

        The slot with the longest common prefix wins, unless more than half of its tokens would be discarded
        and another slot is empty: two conversations that share a system prompt then both stay cached.
        """
        alike = {slot.index: slot.tokens if slot.is_long == is_long else [] for slot in free}
        shared = {index: common_prefix(tokens, prompt[:-1]) for index, tokens in alike.items()}
        shared = {index: length if length >= _MIN_REUSED_TOKENS else 0 for index, length in shared.items()}
        best = max(free, key=lambda slot: (shared[slot.index], -slot.last_used))
        if 2 * shared[best.index] < len(best.tokens):
            best = next((slot for slot in free if not slot.tokens), best)
        return best, shared[best.index]
