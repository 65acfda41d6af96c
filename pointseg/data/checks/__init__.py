"""Checks of the values in scans and clouds; what they find is reported, not raised."""
