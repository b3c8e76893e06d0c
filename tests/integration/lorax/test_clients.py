"""The same scenarios with our clients and with independent ones, which validate the peer."""

import pytest

from . import table

#: Scenarios that other clients are known to fail; see docs/lorax.md.
KNOWN_FAILURES = {
    "lorax-client": {
        "messages, to which the server applies its template",
        "20 tokens when nothing is said",
        "a rejection in plain text",
        "a stream without its final event is no success",
        "a log-probability that is null",
        "[DONE] after the answer, or in it",
        "data on several lines",
        "one connection for several requests",
        "close()",
        "timeout=1: a second between pieces of a stream, keep-alives or not",
        "a host that does not answer, with timeout=1",
        "503 once, then an answer",
        "a request that may be running is not sent again",
    },
    "huggingface_hub": {
        "adapter_source",
        "merged adapters",
        "a JSON schema",
        "a rejection in plain text",
        "a merge strategy that would abort the router is not sent",
        "a stream without its final event is no success",
        "[DONE] after the answer, or in it",
        "data on several lines",
        "one connection for several requests",
        "close()",
        "timeout=1: a second between pieces of a stream, keep-alives or not",
        "503 once, then an answer",
    },
}


@pytest.fixture(scope="module")
def found(peer, small_peer):
    return {kind: table.outcomes(kind, peer.url, small_peer.url) for kind in table.KINDS}


@pytest.mark.parametrize("kind", ["ours", "ours async"])
def test_our_clients_pass_all_scenarios(found, kind):
    assert {name: outcome for name, outcome in found[kind].items() if outcome != "pass"} == {}
    assert len(found[kind]) > 30


@pytest.mark.parametrize("kind", table.KINDS[2:])
def test_the_peer_satisfies_independent_clients(found, kind):
    known = KNOWN_FAILURES[kind.split(" ")[0]]
    failed = {name: outcome for name, outcome in found[kind].items() if outcome != "pass"}
    assert set(failed) <= known, failed
    assert known <= set(found[kind])  # the names exist


def test_the_table_in_the_docs_lists_these_scenarios(found):
    assert table.verdicts(table.written()).keys() == found["ours"].keys()
    assert all(row[0] for row in table.verdicts(table.written()).values())
