"""Server processes started by this library: start, supervise, and stop with all their descendants."""
