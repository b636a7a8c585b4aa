"""The island of nodes: what they need of the sidecar goes through ``gateway``."""

from .extension import Extension

__all__ = ["Extension"]
