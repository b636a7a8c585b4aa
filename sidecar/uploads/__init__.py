"""Resumable uploads: the tus protocol."""
