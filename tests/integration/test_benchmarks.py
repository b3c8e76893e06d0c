"""The benchmark of clients runs with the clients installed in this environment."""

import sys

from benchmarks.clients.contract import text
from benchmarks.clients.measure import measure
from benchmarks.clients.server import render
from benchmarks.clients.tables import tables

HERE = ["lagent_llms", "http.client + orjson", "aiohttp"]


def test_the_clients_are_measured_beside_the_floor():
    figures = measure(quick=True, pythons={"lagent_llms": sys.executable}, only=HERE)
    assert list(figures["clients"]) == HERE
    for name, modes in {"lagent_llms": ["sync", "async"], HERE[1]: ["sync"], HERE[2]: ["async"]}.items():
        for mode in modes:
            found = figures["clients"][name][mode]
            assert set(found) == {"burst", "paced", "request", "first chunk"}
            assert all(row["us"] > 0 for row in found.values())
    assert {budget["reference"] for budget in figures["budgets"]} == {"http.client + orjson", "aiohttp"}
    assert "| http.client + orjson |" in tables(figures)


def test_the_server_sends_responses_like_a_real_one():
    events = render("completions", 50, stream=True, usage=True)
    assert len(events) == 52
    assert events[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert all(event.endswith(b"\n\n\r\n") for event in events[1:-1])
    assert b'"text":" the"' in events[1]
    assert text(50).count(" the") == 4
