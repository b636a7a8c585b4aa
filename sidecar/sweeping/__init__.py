"""Garbage: what crashes and strangers leave, found and removed."""
