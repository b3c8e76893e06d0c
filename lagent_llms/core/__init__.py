"""The mechanics that every backend shares: one call, its stream, session, batch and deadline."""
