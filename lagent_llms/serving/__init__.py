"""Models behind HTTP: OpenAI-style routes over any backend, and the server of JAX models."""
