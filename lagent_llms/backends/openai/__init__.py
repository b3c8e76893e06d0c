"""Servers with OpenAI's chat and completions routes, of any kind (`flavours`)."""
