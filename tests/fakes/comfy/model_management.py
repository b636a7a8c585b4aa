"""Interrupting, as ComfyUI does it: one flag."""


class InterruptProcessingException(Exception):  # noqa: N818 - ComfyUI's name
    """The run was interrupted."""


interrupted = False


def throw_exception_if_processing_interrupted() -> None:
    """Raise if somebody pressed the button."""
    if interrupted:
        raise InterruptProcessingException
