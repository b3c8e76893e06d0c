import asyncio

import pytest

from lagent_llms import TimeoutExceeded
from lagent_llms.core.deadline import Deadline
from lagent_llms.params import Timeout


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_the_limit_is_first_token_until_a_piece_then_idle():
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


def test_renewing_restarts_the_limit_that_runs():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=10, idle=2, total=15), clock)
    clock.now += 9
    deadline.renew()
    assert deadline.remaining() == 6  # of the whole answer
    assert deadline.exceeded().phase == "total"
    deadline.piece_arrived()
    deadline.wake()
    clock.now += 1
    deadline.renew()
    assert deadline.remaining() == 2


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
def test_a_timer_may_expire_slightly_early(timeout, phase):
    clock = Clock()
    deadline = Deadline(timeout, clock)
    clock.now += 4.999_999
    assert (deadline.exceeded().phase, deadline.exceeded().seconds) == (phase, 5)


def test_the_next_check_is_never_later_than_the_shorter_limit():
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


async def test_wait_returns_the_result_or_raises_timeout_exceeded():
    deadline = Deadline(Timeout(first_token=0.05))
    assert await deadline.wait(asyncio.sleep(0, "there")) == "there"
    with pytest.raises(TimeoutExceeded, match=r"within 0\.05 s"):
        await deadline.wait(asyncio.sleep(60))


async def test_a_cancellation_at_the_time_of_the_result_is_not_lost():
    result = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(Deadline(Timeout()).wait(result))
    await asyncio.sleep(0)
    result.set_result("there")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_idle_limit_is_paused_from_a_piece_until_wake():
    clock = Clock()
    deadline = Deadline(Timeout(first_token=10, idle=2, total=50), clock)
    deadline.piece_arrived()
    clock.now += 30
    assert deadline.remaining() == 20  # of the total limit
    deadline.wake()
    assert deadline.remaining() == 2
    clock.now += 1
    deadline.wake()  # no effect: the limit is running
    assert deadline.remaining() == 1
