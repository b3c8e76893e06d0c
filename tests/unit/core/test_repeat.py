"""Operations with one result are repeated as calls are."""

import pytest

from lagent_llms import ConnectError, RetryPolicy
from lagent_llms.core.repeat import repeat, repeat_async
from lagent_llms.retry import Attempts, RetryBudget


def failing(times):
    left = [times]

    def operation():
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectError("no")
        return "done"

    return operation


def attempts():
    return Attempts(RetryPolicy(max_retries=2, base=0.001), RetryBudget())


def test_repeat():
    assert repeat(attempts(), failing(2)) == "done"
    with pytest.raises(ConnectError, match="after 3 attempts"):
        repeat(attempts(), failing(3))


async def test_repeat_async():
    def awaited(operation):
        async def run():
            return operation()

        return run

    assert await repeat_async(attempts(), awaited(failing(2))) == "done"
    with pytest.raises(ConnectError, match="after 3 attempts"):
        await repeat_async(attempts(), awaited(failing(3)))
