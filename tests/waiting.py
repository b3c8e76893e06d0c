"""Wait for a condition, with a time limit."""

import asyncio
import time


def wait_until(condition, seconds=60):
    """Poll `condition` for at most `seconds`; return whether it is true."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


async def until(condition, *tasks, seconds=60):
    """Wait until `condition` holds; raise the error of any of `tasks` that fails meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        for task in tasks:
            if task.done():
                task.result()
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.02)
