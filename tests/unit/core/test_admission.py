"""Several servers, a limit of the rate, and what a backend is given."""

import pytest

from lagent_llms import InvalidArgument
from lagent_llms.core.adaptive import AdaptiveConcurrency
from lagent_llms.core.admission import Admission, admission_of
from lagent_llms.core.concurrency import Concurrency
from lagent_llms.testing import ScriptedLLM

from .simulation import Clock


def test_a_prompt_goes_to_the_server_with_the_largest_part_free():
    admission = Admission([Concurrency(2), Concurrency(4)])
    servers = [admission.enter().server for _ in range(6)]
    assert (servers.count(0), servers.count(1)) == (2, 4)
    assert admission.wait() is None
    assert (admission.limit, admission.most, admission.in_flight) == (6, 6, 6)


def test_a_server_that_asks_to_wait_holds_up_only_itself():
    clock = Clock()
    admission = Admission([Concurrency(1, clock), Concurrency(2, clock)], clock=clock)
    ticket = admission.enter()
    admission.hold(20, ticket)
    admission.leave(ticket)
    others = [admission.enter() for _ in range(2 if ticket.server == 0 else 1)]
    assert {other.server for other in others} == {1 - ticket.server}
    assert admission.wait() == 20


def test_one_limit_for_all_servers_leaves_the_choice_to_the_backend():
    admission = Admission([Concurrency(2)])
    assert admission.server(admission.enter()) is None


def test_a_rate_spreads_prompts():
    clock = Clock()
    admission = Admission([Concurrency(100, clock)], max_per_second=4, clock=clock)
    sent = []
    while clock.now < 3:
        if wait := admission.wait():
            clock.now += wait
        admission.enter()
        sent.append(clock.now)
    assert len(sent) <= 14
    assert all(later - earlier >= 0.25 for earlier, later in zip(sent[1:], sent[2:], strict=False))


def test_prompts_that_are_late_do_not_add_up():
    clock = Clock()
    admission = Admission([Concurrency(100, clock)], max_per_second=10, clock=clock)
    count = 0
    while clock.now < 10:
        clock.now += admission.wait() + 0.01
        admission.leave(admission.enter())
        count += 1
    assert 98 <= count <= 102


def test_the_end_is_told_when_nothing_is_in_flight():
    ended = []
    admission = Admission([Concurrency(2)], ended=lambda: ended.append(1))
    first, second = admission.enter(), admission.enter()
    admission.leave(first)
    assert not ended
    admission.leave(second)
    assert ended


class Engine(ScriptedLLM):
    fills_engine = 16


def test_an_engine_in_this_process_is_full_at_once():
    admission = admission_of(Engine(), {})
    assert (admission.limit, admission.most) == (16, 16)


def test_a_number_is_fixed_and_auto_begins_low():
    assert admission_of(ScriptedLLM(max_concurrency=5), {}).limit == 5
    assert admission_of(ScriptedLLM(), {}).limit == 1
    assert admission_of(ScriptedLLM(), {}, 7).limit == 7
    assert admission_of(ScriptedLLM(max_concurrency=5), {}, "auto").limit == 1


def test_what_was_found_is_kept_for_the_next_batch():
    llm = ScriptedLLM()
    admission = admission_of(llm, {})
    (server,) = admission._servers
    assert isinstance(server, AdaptiveConcurrency)
    ticket = admission.enter()
    server.limit = 40.0
    admission.leave(ticket)
    assert admission_of(llm, {}).limit == 20


@pytest.mark.parametrize("value", [0, "many", -1, True])
def test_a_bad_number_is_refused(value):
    with pytest.raises(InvalidArgument, match="allowed is an integer of 1 or more, or 'auto'"):
        ScriptedLLM(max_concurrency=value)


@pytest.mark.parametrize("value", [0, -1, "fast"])
def test_a_bad_rate_is_refused_before_anything_is_sent(value):
    llm = ScriptedLLM()
    with pytest.raises(InvalidArgument, match="max_per_second"):
        llm.generate(["a", "b"], max_per_second=value)
    assert not llm.requests
