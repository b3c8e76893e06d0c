"""What is kept of calls in SQLite files: a cache of answers, and a journal."""
