"""Endpoints of a workspace: their deployments, traffic, jobs and machines."""
