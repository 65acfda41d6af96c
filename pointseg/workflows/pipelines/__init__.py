"""The steps from scans to a deployed model as one: checked as a chain, run, recorded, and gone on with."""
