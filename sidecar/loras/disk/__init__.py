"""Files on ComfyUI's disk: absent, then an unlisted ``.part``, then present.

Present means the right size, the right sha256, and renamed into place; ComfyUI lists by suffix, so
it never lists a part. The modification time of a file is its last use, to ten minutes.
"""

from .sync import LoraSync

__all__ = ["LoraSync"]
