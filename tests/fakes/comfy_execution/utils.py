"""Which prompt and node run on this thread."""

from contextvars import ContextVar
from typing import NamedTuple


class ExecutionContext(NamedTuple):
    """The prompt and the node."""

    prompt_id: str
    node_id: str
    list_index: int | None


current_executing_context: ContextVar[ExecutionContext | None] = ContextVar(
    "executing", default=None
)


def get_executing_context() -> ExecutionContext | None:
    """None outside of an execution."""
    return current_executing_context.get()
