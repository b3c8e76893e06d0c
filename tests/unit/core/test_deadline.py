import asyncio

import pytest

from lagent_llms import TimeoutExceeded
from lagent_llms.core.deadline import Deadline
from lagent_llms.params import Timeout


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_first_token_then_idle():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=10, idle=2), clock)
    assert deadline.remaining() == 10
    clock.now += 4
    assert deadline.remaining() == 6
    clock.now += 7
    assert deadline.remaining() == 0
    assert deadline.exceeded().phase == "first_token"
    deadline.piece_arrived()
    deadline.wake()
    assert deadline.remaining() == 2
    clock.now += 3
    assert (deadline.exceeded().phase, deadline.exceeded().seconds) == ("idle", 2)


def test_total_bounds_the_whole_answer():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=None, idle=None, total=5), clock)
    deadline.piece_arrived()
    clock.now += 4
    assert deadline.remaining() == 1
    clock.now += 2
    assert deadline.exceeded().phase == "total"


@pytest.mark.parametrize(
    ("timeout", "phase"),
    [
        (Timeout(first_token=None, idle=None, total=5), "total"),
        (Timeout(first_token=30, idle=None, total=5), "total"),
        (Timeout(first_token=5, idle=None, total=30), "first_token"),
    ],
)
def test_a_timer_may_ring_a_moment_early(timeout, phase):
    clock = Clock()
    deadline = Deadline(timeout, clock)
    clock.now += 4.999_999
    assert (deadline.exceeded().phase, deadline.exceeded().seconds) == (phase, 5)


def test_a_timer_looks_again_before_the_shorter_limit_can_be_over():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=30, idle=2), clock)
    assert deadline.next_check() == 2
    deadline.piece_arrived()
    deadline.wake()
    clock.now += 1.5
    assert deadline.next_check() == 0.5
    assert Deadline(Timeout(first_token=None, idle=3)).next_check() == 3
    assert Deadline(Timeout(first_token=None, idle=None)).next_check() is None


def test_no_limit():
    assert Deadline(Timeout(first_token=None, idle=None)).remaining() is None


async def test_waiting_ends_with_the_result_or_with_the_time():
    deadline = Deadline(Timeout(first_token=0.05))
    assert await deadline.wait(asyncio.sleep(0, "there")) == "there"
    with pytest.raises(TimeoutExceeded, match=r"within 0\.05 s"):
        await deadline.wait(asyncio.sleep(60))


async def test_a_cancellation_that_comes_with_the_result_is_not_lost():
    result = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(Deadline(Timeout()).wait(result))
    await asyncio.sleep(0)
    result.set_result("there")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_it_rests_from_a_piece_until_somebody_waits():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=10, idle=2, total=50), clock)
    deadline.piece_arrived()
    clock.now += 30
    assert deadline.remaining() == 20  # of the whole answer
    deadline.wake()
    assert deadline.remaining() == 2
    clock.now += 1
    deadline.wake()  # it did not rest
    assert deadline.remaining() == 1
