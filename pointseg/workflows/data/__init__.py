"""Data sets: checked, packed, and registered in a workspace."""
