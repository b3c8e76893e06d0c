"""The thread that watches deadlines: it calls back in time, and drops stopped timers."""

import os
import threading
import time

import pytest

from lagent_llms.core import deadline_thread
from lagent_llms.core.deadline import Deadline
from lagent_llms.core.deadline_thread import ThreadDeadlineTimer
from lagent_llms.params import Timeout


def timer(seconds, on_expired=lambda: None):
    return ThreadDeadlineTimer(Deadline(Timeout(first_token=seconds, idle=seconds)), on_expired)


def test_the_callback_runs_when_the_time_is_over():
    expired, later = threading.Event(), threading.Event()
    first, second = timer(0.05, expired.set), timer(0.1, later.set)
    assert expired.wait(30)
    assert later.wait(30)
    assert first.expired
    assert second.expired


def test_stopped_timers_are_not_kept_until_their_time():
    kept = [timer(600) for _ in range(50)]
    for _ in range(10_000):
        timer(600).stop()
    for item in kept:
        item.stop()
        item.stop()  # a second stop has no effect
    end = time.monotonic() + 10
    while len(deadline_thread._watch._timers) > 500 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(deadline_thread._watch._timers) <= 500


def test_dropping_stopped_timers_keeps_running_ones():
    expired = threading.Event()
    waiting = timer(0.3, expired.set)
    for _ in range(1_000):
        timer(600).stop()
    assert expired.wait(30)
    assert waiting.expired


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_its_own_thread():
    waiting = timer(600)  # starts the thread of this process
    if not (child := os.fork()):
        expired = threading.Event()
        timer(0.05, expired.set)
        os._exit(0 if expired.wait(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    waiting.stop()
