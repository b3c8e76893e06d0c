"""Wire protocols that several backends speak."""
