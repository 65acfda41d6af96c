"""Pipelines that a workspace keeps: their files, and the steps that publish, run and schedule them."""
