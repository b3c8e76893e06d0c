"""Backends whose calls are answered by other backends: `FallbackLLM`, `RouterLLM`."""
