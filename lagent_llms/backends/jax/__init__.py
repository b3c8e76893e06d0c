"""JAX: the engine in this process (`pipeline`), and a `JAXServer` over HTTP (`client`)."""
