"""OpenAI-compatible routes over any backend."""
