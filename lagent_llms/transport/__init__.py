"""Carries out what `lagent_llms.wire` asks for: sockets, event loops, clocks."""
