"""Which request waits, which has which slot, what of an old KV cache it reuses: bookkeeping, no arrays.

A slot remembers the tokens whose keys and values it holds, also after its request has finished. A new request
takes over the part of them that its prompt begins with.
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

#: A shorter common prefix is computed again: nothing is gained below the smallest prefill bucket.
_SHORTEST_REUSE = 16


def check_prompt(prompt: Sequence[int], max_len: int) -> list[int]:
    """`prompt` as a list, once it leaves room for an answer.

    Raises:
        InvalidArgument: It is empty.
        ContextLengthExceeded: It does not leave room.
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
    """How many tokens two sequences share at their beginning; by bisection, so mostly compared in C."""
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
    """One place for a sequence in the KV cache.

    Attributes:
        index: Its row in the cache.
        tokens: The tokens whose keys and values are valid, from position 0 on.
        last_used: Turn of the clock when a request last left it.
        busy: A request has it.
    """

    index: int
    tokens: list[int] = field(default_factory=list)
    last_used: int = 0
    busy: bool = False


@dataclass(eq=False)
class Job(Generic[Payload]):
    """One request on its way.

    Attributes:
        prompt: Token ids.
        params: How to decode.
        seed: What its randomness comes from.
        payload: The caller's own; not looked at here.
        limit: Most tokens it may generate, the context limit included.
        output: Tokens generated.
        slot: Its slot, None while it waits.
        cached: Prompt tokens taken over from the slot.
        cancelled: The caller wants no more.
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
    def missing(self) -> int:
        """Prompt tokens that still have to be computed."""
        return len(self.prompt) - len(self.held.tokens) if not self.output else 0

    @property
    def held(self) -> Slot:
        """Its slot, when it surely has one."""
        assert self.slot is not None
        return self.slot


class Scheduler(Generic[Payload]):
    """Queue and slots.

    Args:
        slots: How many sequences the cache holds.

    Attributes:
        waiting: Jobs without a slot, oldest first.
        running: Jobs with a slot, in the order in which they got it.
    """

    def __init__(self, slots: int) -> None:
        self._slots = [Slot(index) for index in range(slots)]
        self._clock = 0
        self.waiting: deque[Job[Payload]] = deque()
        self.running: list[Job[Payload]] = []

    @property
    def prefilling(self) -> list[Job[Payload]]:
        """Running jobs whose prompt is not computed yet."""
        return [job for job in self.running if job.missing]

    @property
    def decoding(self) -> list[Job[Payload]]:
        """Running jobs that have their first token."""
        return [job for job in self.running if not job.missing]

    def admit(self) -> list[Job[Payload]]:
        """Give free slots to waiting jobs, oldest first; the jobs that got one."""
        admitted = []
        while self.waiting and (free := [slot for slot in self._slots if not slot.busy]):
            job = self.waiting.popleft()
            slot, job.cached = self._choose(free, job.prompt)
            del slot.tokens[job.cached :]
            slot.busy, job.slot = True, slot
            self.running.append(job)
            admitted.append(job)
        return admitted

    def drop(self, dropped: Callable[[Job[Payload]], bool]) -> list[Job[Payload]]:
        """Take out all jobs, waiting or running, for which `dropped` holds; their slots are free at once."""
        gone = [job for job in (*self.running, *self.waiting) if dropped(job)]
        for job in gone:
            if job.slot is None:
                self.waiting.remove(job)
            else:
                self.release(job)
        return gone

    def release(self, job: Job[Payload]) -> None:
        """Free the slot of a running job; what it holds stays for later prompts."""
        self._clock += 1
        job.held.busy, job.held.last_used = False, self._clock
        self.running.remove(job)

    def forget(self) -> None:
        """The cache was lost: no slot holds anything any more."""
        for slot in self._slots:
            slot.tokens.clear()

    @staticmethod
    def _choose(free: list[Slot], prompt: list[int]) -> tuple[Slot, int]:
        """The slot for a prompt and how many tokens it keeps; at least one token is left to compute.

        The longest common prefix wins, unless it would throw away more of a slot than it keeps while another
        slot is empty: two conversations that share a system prompt both stay.
        """
        shared = {slot.index: common_prefix(slot.tokens, prompt[:-1]) for slot in free}
        shared = {index: length if length >= _SHORTEST_REUSE else 0 for index, length in shared.items()}
        best = max(free, key=lambda slot: (shared[slot.index], -slot.last_used))
        if 2 * shared[best.index] < len(best.tokens):
            best = next((slot for slot in free if not slot.tokens), best)
        return best, shared[best.index]
