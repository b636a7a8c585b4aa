"""Runs: submitted, prepared, followed, kept."""
