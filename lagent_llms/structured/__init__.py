"""Structured output: constraints on answers, and answers read as instances of a type."""
