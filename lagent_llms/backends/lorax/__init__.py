"""LoRAX as a backend; the client of its own API is `lagent_llms.lorax`."""
