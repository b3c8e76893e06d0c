"""Batch jobs: many rows through one backend into one file, continued after any interruption."""
