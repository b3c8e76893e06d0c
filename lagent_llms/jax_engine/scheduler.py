"""Schedule requests: queue, KV cache slots and prefix reuse. Bookkeeping only, no arrays.

A slot records the tokens whose keys and values it holds, also after its request has finished. A new request
reuses the longest prefix of them that its prompt shares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..errors import ContextLengthExceeded, InvalidArgument
from .sampling import SamplingParams

__all__ = ["Job", "Scheduler", "Slot", "check_prompt", "common_prefix"]

Payload = TypeVar("Payload")

#: Shorter prefixes are not reused: below the smallest prefill bucket that saves no time.
_MIN_REUSED_TOKENS = 16


def check_prompt(prompt: Sequence[int], max_len: int) -> list[int]:
    """Check that a prompt leaves room for an answer.

    Args:
        prompt: Token ids.
        max_len: Longest prompt and answer together, in tokens.

    Returns:
        The token ids as a list of int.

    Raises:
        InvalidArgument: The prompt is empty.
        ContextLengthExceeded: The prompt has `max_len` tokens or more.
    """
    tokens = [int(token) for token in prompt]
    if not tokens:
        raise InvalidArgument("prompt_ids is empty: at least one token is needed", argument="prompt_ids")
    if len(tokens) >= max_len:
        raise ContextLengthExceeded(
            f"the prompt has {len(tokens)} tokens, which leaves no room for an answer: "
            f"max_len is {max_len} tokens"
        )
    return tokens


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
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    busy: bool = False


@dataclass(eq=False)
class Job(Generic[Payload]):
    """A request in the queue or in a slot.

    Attributes:
        prompt: Token ids of the prompt.
        params: Decoding parameters.
        seed: Seed of the sampling.
        payload: Data of the caller; the scheduler does not use it.
        limit: Largest number of tokens to generate, with the context limit taken into account.
        output: Generated tokens.
        slot: Slot of the request, None while it waits.
        cached: Number of prompt tokens reused from the slot.
        cancelled: True after the caller cancelled the request.
    """

    prompt: list[int]
    params: SamplingParams
    seed: int
    payload: Payload
    limit: int
    output: list[int] = field(default_factory=list)
    slot: Slot | None = None
    cached: int = 0
    cancelled: bool = False

    @property
    def num_uncomputed(self) -> int:
        """Number of prompt tokens that are not computed yet."""
        return len(self.prompt) - len(self.assigned_slot.tokens) if not self.output else 0

    @property
    def assigned_slot(self) -> Slot:
        """Slot of a running request."""
        assert self.slot is not None
        return self.slot


class Scheduler(Generic[Payload]):
    """The queue and the slots of the KV cache.

    Args:
        slots: Number of slots.

    Attributes:
        waiting: Jobs without a slot, oldest first.
        running: Jobs with a slot, in order of admission.
    """

    def __init__(self, slots: int) -> None:
        self._slots = [Slot(index) for index in range(slots)]
        self._clock = 0
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
            slot, job.cached = self._select_slot(free, job.prompt)
            del slot.tokens[job.cached :]
            slot.busy, job.slot = True, slot
            self.running.append(job)
            admitted.append(job)
        return admitted

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

    @staticmethod
    def _select_slot(free: list[Slot], prompt: list[int]) -> tuple[Slot, int]:
        """Select a slot for a prompt, and the number of its tokens to reuse; at least one is left to compute.

        The slot with the longest common prefix wins, unless more than half of its tokens would be discarded
        and another slot is empty: two conversations that share a system prompt then both stay cached.
        """
        shared = {slot.index: common_prefix(slot.tokens, prompt[:-1]) for slot in free}
        shared = {index: length if length >= _MIN_REUSED_TOKENS else 0 for index, length in shared.items()}
        best = max(free, key=lambda slot: (shared[slot.index], -slot.last_used))
        if 2 * shared[best.index] < len(best.tokens):
            best = next((slot for slot in free if not slot.tokens), best)
        return best, shared[best.index]
