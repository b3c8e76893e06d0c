"""`JAXServer`: a JAX model served over HTTP, with EasyDeL's routes and methods."""
