"""Wait for a condition, but not for ever."""

import asyncio
import time


def wait_until(condition, seconds=60):
    """Whether `condition` comes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


async def until(condition, *tasks, seconds=60):
    """Wait until `condition` holds; a task that fails meanwhile raises its error here."""
    end = time.monotonic() + seconds
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.02)
