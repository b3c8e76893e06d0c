"""Anthropic's Messages API over any backend."""
