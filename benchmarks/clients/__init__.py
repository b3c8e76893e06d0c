"""The clients over HTTP: what they cost beyond the wire itself. Run it: python -m benchmarks clients.

server.py sends answers that were rendered beforehand, floor.py is the least a client can do, contract.py what
every client here must offer. The clients themselves are in benchmarks/peers/NAME, each with a virtual
environment of its own that ``scripts/peer NAME`` makes; worker.py runs inside it.
"""
