"""A model in this process, run by vLLM."""
