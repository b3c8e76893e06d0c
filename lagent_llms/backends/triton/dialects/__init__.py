"""How each kind of model on a Triton server is called, one file a dialect."""
