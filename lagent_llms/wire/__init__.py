"""What is said on the wire, as pure functions and state machines: no sockets, no clocks, no event loops."""
