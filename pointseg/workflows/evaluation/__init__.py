"""Scores, reports and drift: how good a model is, and whether new scans look like its training set."""
