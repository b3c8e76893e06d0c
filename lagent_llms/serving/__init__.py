"""HTTP servers: OpenAI-compatible routes over any backend, and `JAXServer`."""
