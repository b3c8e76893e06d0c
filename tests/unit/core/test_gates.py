"""The places of a batch, for threads and for tasks."""

import asyncio
import threading

import pytest

from lagent_llms import RateLimited, TimeoutExceeded
from lagent_llms.core.admission import Admission, Ticket
from lagent_llms.core.concurrency import Concurrency
from lagent_llms.core.gates import AsyncGate, Gate

SLOW = TimeoutExceeded("x", phase="first_token")


def test_threads_wait_for_a_place():
    gate = Gate(Admission([Concurrency(2)]))
    inside, most, lock, together = [0], [0], threading.Lock(), threading.Barrier(2, timeout=60)

    def run():
        with gate.place():
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            together.wait()
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most[0] == 2
    assert gate.admission.in_flight == 0


def test_a_prompt_that_waits_for_its_next_attempt_holds_no_place():
    gate = Gate(Admission([Concurrency(1)]))
    wake, other = threading.Event(), threading.Event()

    def run():
        with gate.place():
            other.set()
            wake.set()

    with gate.place() as place:
        thread = threading.Thread(target=run)
        thread.start()
        place.pause(600, SLOW, wake)  # ends when the other one was inside
        assert other.is_set()
    thread.join(60)
    assert gate.admission.in_flight == 0


def test_closing_ends_the_waits_of_threads():
    gate = Gate(Admission([Concurrency(1)]))
    with gate.place():
        thread = threading.Thread(target=gate.enter)
        thread.start()
        gate.close()
        thread.join(60)
        assert not thread.is_alive()
    assert gate.admission.in_flight == 0


async def test_tasks_are_admitted_in_the_order_of_their_coming():
    gate, order = AsyncGate(Admission([Concurrency(2)])), []

    async def run(number):
        async with gate.place():
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(run, range(10)))
    assert order == list(range(10))
    assert gate.admission.in_flight == 0


@pytest.mark.parametrize("admitted", [False, True])
async def test_a_task_that_is_cancelled_while_it_waits_holds_no_place(admitted):
    gate = AsyncGate(Admission([Concurrency(1)]))
    held = await gate.enter()
    task = asyncio.create_task(gate.enter())
    last = asyncio.create_task(gate.enter())
    await asyncio.sleep(0)
    if admitted:
        gate.leave(held)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if not admitted:
        gate.leave(held)
    await last
    assert gate.admission.in_flight == 1


async def test_a_hold_admits_later():
    gate = AsyncGate(Admission([Concurrency(1)]))
    async with gate.place() as place:
        await place.pause(0, RateLimited("x", retry_after=0.05), asyncio.Event())
    gate.admission.hold(0.05, Ticket(0, 0, 0.0))
    await gate.enter()


async def test_a_cut_holds_back_tasks():
    gate = AsyncGate(Admission([Concurrency(4)]))
    places = [gate.place() for _ in range(4)]
    for place in places:
        await place.__aenter__()
    assert places[0].failed(SLOW)
    waiting = asyncio.create_task(gate.enter())
    for place in places[:2]:
        await place.__aexit__(None, None, None)
        await asyncio.sleep(0)
        assert not waiting.done()
    await places[2].__aexit__(None, None, None)
    await waiting
    places[3].answered()
    assert gate.admission.in_flight == 2
