"""Atelier's sidecar: the process beside ComfyUI that keeps workflows, LoRAs and runs."""

__version__ = "0.1.0"
