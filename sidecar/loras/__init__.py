"""The LoRA library: upload, versions, and files on ComfyUI's disk."""
