"""HTTP for backends: one exchange as a pure state machine, executed by a sync and an async client."""
