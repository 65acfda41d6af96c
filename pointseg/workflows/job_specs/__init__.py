"""A task with its configuration as a job that runs elsewhere."""
