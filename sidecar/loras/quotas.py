"""What an account may keep. None is no limit."""

from ..errors import StorageFullError, TooLargeError


def refuse_larger(size: int, largest: int) -> None:
    """TooLargeError("lora_too_large") for a file with more bytes."""
    if size > largest:
        raise TooLargeError(
            "lora_too_large",
            f"The file has {size} bytes; {largest} are allowed.",
            {"max_bytes": largest},
        )


def refuse_too_much(needed: int, quota: int | None) -> None:
    """StorageFullError("quota_exceeded") when so many bytes are more than the quota."""
    if quota is not None and needed > quota:
        raise StorageFullError(
            "quota_exceeded",
            f"Your LoRAs would take {needed} bytes; {quota} are allowed.",
            {"needed_bytes": needed, "max_bytes": quota},
        )


def refuse_too_many(count: int, quota: int | None) -> None:
    """StorageFullError("quota_exceeded") when so many LoRAs are more than the quota."""
    if quota is not None and count > quota:
        raise StorageFullError(
            "quota_exceeded",
            f"You would have {count} LoRAs; {quota} are allowed.",
            {"needed_loras": count, "max_loras": quota},
        )
