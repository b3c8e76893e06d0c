"""The models of the peer: what tritonserver's python backend runs, each module one dialect."""
