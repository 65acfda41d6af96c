"""The table of the models that can be chosen, and what each costs."""
