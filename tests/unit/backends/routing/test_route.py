"""The choice of the member that answers: order, load, members that failed lately, sessions."""

import os

import pytest

from lagent_llms.backends.routing.route import Pool, Route
from lagent_llms.errors import ConnectError, InvalidArgument, ServerError, ServerStartError, TimeoutExceeded
from lagent_llms.retry import RetryPolicy

POLICY = RetryPolicy()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def pool(members="ab", *, balanced=False, clock=None):
    return Pool(members, balanced=balanced, cooldown=10, clock=clock or Clock())


def test_the_first_member_is_taken_whatever_its_load():
    members = pool()
    assert [members.take() for _ in range(3)] == [0, 0, 0]


def test_the_member_with_the_fewest_calls_is_taken_and_equal_ones_in_turn():
    members = pool("abc", balanced=True)
    assert {members.take() for _ in range(3)} == {0, 1, 2}
    members.give_back(1, answered=True)
    assert members.take() == 1
    for index in range(3):
        members.give_back(index, answered=True)
    taken = []
    for _ in range(6):
        taken.append(members.take())
        members.give_back(taken[-1], answered=True)
    assert sorted(taken) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("balanced", [False, True])
def test_a_member_that_failed_comes_last_for_a_while(balanced):
    clock = Clock()
    members = pool(balanced=balanced, clock=clock)
    for index in (0, 1):
        members.give_back(members.take(tried={1 - index}), answered=index == 1 or False)
    assert [members.take() for _ in range(3)] == [1, 1, 1]
    assert members.take(tried={1}) == 0  # the only one left
    clock.now = 10
    assert members.take() == 0


def test_a_call_that_was_left_says_nothing_of_its_member():
    members = pool()
    members.give_back(members.take(), answered=False)
    members.give_back(members.take(tried={1}), answered=None)
    assert members.take() == 1
    members.give_back(members.take(tried={1}), answered=True)
    assert members.take() == 0


def test_a_session_stays_with_the_member_that_answered_it():
    members = pool(balanced=True)
    busy = Route(members)
    busy.take()
    first = Route(members, 5)
    assert first.take() == "b"
    first.end(answered=True)
    more = [Route(members, 5) for _ in range(3)]
    assert [route.take() for route in more] == ["b"] * 3  # although "a" has fewer calls
    more[0].end(answered=False)
    moved = Route(members, 5)
    assert moved.take() == "a"
    moved.end(answered=True)
    assert members.homes == {5: 0}
    last = Route(members, 5)
    last.take()
    last.end(answered=True, closes_session=True)
    assert members.homes == {}


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (ConnectError("no"), True),
        (ServerError("no", status_code=503), True),
        (ServerError("no", status_code=500), True),
        (TimeoutExceeded("no", phase="first_token"), True),
        (ServerStartError("it has ended"), True),
        (TimeoutExceeded("no", phase="total"), False),
        (ServerError("no", status_code=400), False),
        (InvalidArgument("no"), False),
    ],
)
def test_another_member_is_asked_after_failures_that_are_retried(error, goes_on):
    members = pool()
    route = Route(members)
    route.take()
    assert route.failed(error, POLICY) is (None if goes_on else error)
    assert Route(members).take() == ("b" if goes_on else "a")


def test_no_other_member_is_asked_once_the_answer_has_begun():
    members = pool()
    route = Route(members)
    route.take()
    error = ServerError("no", status_code=500)
    assert route.failed(error, POLICY, begun=True) is error
    assert Route(members).take() == "b"  # for the next call it counts


def test_the_error_of_the_last_member_tells_all_of_them():
    route = Route(pool("abc"))
    reached = ServerError("no capacity", status_code=503)
    route.take()
    assert route.failed(reached, POLICY) is None
    for error in (ConnectError("refused"), ConnectError("unknown host")):
        route.take()
        failure = route.failed(error, POLICY)
    assert failure is reached
    assert str(failure) == "no member has answered: 'b': refused; 'c': unknown host; 'a': no capacity"


def test_the_error_of_a_single_member_is_its_own():
    route = Route(pool("a"))
    route.take()
    assert str(route.failed(ConnectError("refused"), POLICY)) == "refused"


def test_calls_in_flight_before_a_fork_are_none_of_the_childs():
    members = pool(balanced=True)
    for _ in range(3):
        members.take(tried={1})
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, b"".join(b"%d" % members.take() for _ in range(4)))
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert sorted(pipe.read()) == sorted(b"0011")
    os.wait()
