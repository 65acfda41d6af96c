"""Training: the run, what it is built from, and what is recorded of it."""
