import logging

import pytest

from lagent_llms.core.sessions import History, SessionStore
from lagent_llms.errors import SessionBusy, SessionClosed
from lagent_llms.testing import ScriptedLLM


def said(text):
    return History(None, text)


def test_a_stateless_turn_leaves_no_trace():
    store = SessionStore()
    first, second = (store.begin(7, start=True, end=True) for _ in range(2))
    assert first.stateless
    assert second.stateless
    first.commit(said("a"))
    assert 7 not in store
    assert len(store) == 0


def test_open_continue_close():
    store = SessionStore()
    store.begin(7, start=True, end=False).commit(said("a"))
    assert 7 in store
    turn = store.begin(7, start=False, end=True)
    assert turn.history == said("a")
    turn.commit(said("ab"))
    assert 7 not in store
    with pytest.raises(SessionClosed, match="session 7 is not open"):
        store.begin(7, start=False, end=False)


def test_unknown_session_is_closed():
    with pytest.raises(SessionClosed) as caught:
        SessionStore().begin(3, start=False, end=True)
    assert caught.value.session_id == 3


def test_a_second_concurrent_turn_is_refused_and_the_first_continues():
    store = SessionStore()
    turn = store.begin(7, start=True, end=False)
    with pytest.raises(SessionBusy):
        store.begin(7, start=True, end=False)
    turn.commit(said("a"))
    assert store.begin(7, start=False, end=False).history == said("a")


def test_a_stateless_turn_does_not_disturb_an_open_session_of_the_same_id():
    store = SessionStore()
    store.begin(7, start=True, end=False).commit(said("a"))
    store.begin(7, start=True, end=True).commit(said("other"))
    assert store.begin(7, start=False, end=False).history == said("a")


@pytest.mark.parametrize("end", [False, True])
def test_a_failed_turn_leaves_history_as_it_was(end):
    store = SessionStore()
    store.begin(7, start=True, end=False).commit(said("a"))
    store.begin(7, start=False, end=end).rollback()
    store.begin(7, start=True, end=end).rollback() if not end else None
    assert store.begin(7, start=False, end=False).history == said("a")


def test_a_failed_first_turn_opens_nothing():
    store = SessionStore()
    store.begin(7, start=True, end=False).rollback()
    assert 7 not in store
    with pytest.raises(SessionClosed):
        store.begin(7, start=False, end=False)


def test_a_restart_clears_the_history():
    store = SessionStore()
    store.begin(7, start=True, end=False).commit(said("a"))
    turn = store.begin(7, start=True, end=False)
    assert turn.history == History()
    turn.commit(said("b"))
    assert store.begin(7, start=False, end=False).history == said("b")


def test_rollback_after_commit_changes_nothing():
    store = SessionStore()
    turn = store.begin(7, start=True, end=False)
    turn.commit(said("a"))
    turn.rollback()
    assert 7 in store


def test_a_session_closed_while_a_turn_runs_stays_closed():
    store = SessionStore()
    turn = store.begin(7, start=True, end=False)
    store.close(7)
    turn.commit(said("a"))
    assert 7 not in store


def test_a_rollback_in_a_finalizer_does_not_wait_for_the_lock():
    store = SessionStore()
    turn = store.begin(1, start=True, end=False)
    with store._lock:  # a finalizer may run while the lock is held
        turn.rollback()
    assert 1 not in store
    store.begin(1, start=True, end=False)


def test_an_opened_session_has_its_first_turn_to_come():
    store = SessionStore()
    store.open(7, ({"role": "system", "content": "S"},))
    assert 7 in store
    store.begin(7, start=False, end=False).rollback()
    turn = store.begin(7, start=False, end=False)
    assert turn.history.opening == ({"role": "system", "content": "S"},)
    turn.commit(said("a"))
    assert store.history(7) == said("a")
    store.close(7)
    with pytest.raises(SessionClosed):
        store.history(7)


def test_a_session_is_closed_while_a_thread_holds_the_lock():
    store = SessionStore()
    store.open(7, ())
    with store._lock:
        store.close(7)  # as a finalizer may
    assert 7 not in store


def warnings_in(caplog):
    return [record for record in caplog.records if record.name == "lagent_llms.sessions"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"sequence_end": True},
        {"session_id": 2, "sequence_start": True, "sequence_end": True},
        {"session_id": 2, "sequence_end": False},
    ],
)
def test_no_warning_where_the_caller_knows(given, caplog):
    ScriptedLLM().generate("x", **given)
    assert not warnings_in(caplog)


def test_a_session_id_alone_is_warned_of_once(caplog):
    caplog.set_level(logging.WARNING, "lagent_llms.sessions")
    llm = ScriptedLLM(meta_template="chatml")
    for _ in range(2):
        llm.chat("x", session_ids=2)
        llm.chat(["x", "y"], session_ids=[2, 3])
    (record,) = warnings_in(caplog)
    assert "session_id=2 alone remembers nothing" in record.message
    caplog.clear()
    ScriptedLLM(session_id=5).generate("x", sequence_start=True)
    assert "session_id=5 alone" in caplog.text
