"""The scoring service of this machine: its settings and its life."""
