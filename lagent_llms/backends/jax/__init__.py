"""JAX: the engine in process (`pipeline`), and the client of a `JAXServer` (`client`)."""
