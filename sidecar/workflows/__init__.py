"""Stored graphs and their versions; what a prompt refers to and how inputs are applied."""
