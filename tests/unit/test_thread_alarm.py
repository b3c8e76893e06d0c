"""The thread that watches deadlines: it rings in time, and keeps nothing of what is over."""

import os
import threading
import time

import pytest

from lagent_llms.deadline import Deadline
from lagent_llms.params import Timeout
from lagent_llms.transport import thread_alarm
from lagent_llms.transport.thread_alarm import ThreadAlarm


def alarm(seconds, ring=lambda: None):
    return ThreadAlarm(Deadline(Timeout(first_token=seconds, idle=seconds)), ring)


def test_it_rings_once_time_is_up():
    rang, later = threading.Event(), threading.Event()
    first, second = alarm(0.05, rang.set), alarm(0.1, later.set)
    assert rang.wait(30)
    assert later.wait(30)
    assert first.rang
    assert second.rang


def test_stopped_alarms_are_not_kept_until_their_time():
    kept = [alarm(600) for _ in range(50)]
    for _ in range(10_000):
        alarm(600).stop()
    for item in kept:
        item.stop()
        item.stop()  # again: it counts once
    end = time.monotonic() + 10
    while len(thread_alarm._watch._alarms) > 500 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(thread_alarm._watch._alarms) <= 500


def test_the_others_are_still_watched():
    rang = threading.Event()
    waiting = alarm(0.3, rang.set)
    for _ in range(1_000):
        alarm(600).stop()
    assert rang.wait(30)
    assert waiting.rang


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_watches_its_own():
    waiting = alarm(600)  # the thread runs, here
    if not (child := os.fork()):
        rang = threading.Event()
        alarm(0.05, rang.set)
        os._exit(0 if rang.wait(20) else 1)
    assert os.waitpid(child, 0)[1] == 0
    waiting.stop()
