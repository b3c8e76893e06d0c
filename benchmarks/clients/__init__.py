"""Benchmark of HTTP clients: their cost compared with a minimal client. Run: python -m benchmarks clients.

server.py sends pre-rendered answers, floor.py has the minimal client ("the floor"), contract.py the interface
of all measured clients. The clients themselves are in benchmarks/peers/NAME, each with a virtual
environment of its own that ``scripts/peer NAME`` makes; worker.py runs inside it.
"""
