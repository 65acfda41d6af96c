"""Several trainings as one: every combination of some values, or a search for the best."""
