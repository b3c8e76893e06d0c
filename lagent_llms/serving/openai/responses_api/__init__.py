"""OpenAI's Responses API over any backend."""
