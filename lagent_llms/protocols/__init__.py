"""Wire protocols shared by several backends."""
