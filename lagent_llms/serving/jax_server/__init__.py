"""`JAXServer`: a JAX model behind HTTP, with the routes of the seed."""
