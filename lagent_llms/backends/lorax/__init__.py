"""LoRAX as a backend; `lagent_llms.lorax` is the client of LoRAX's own API."""
