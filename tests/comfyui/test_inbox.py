"""The buffer between the websocket and whoever reads it."""

from sidecar.comfyui import Message
from sidecar.comfyui.inbox import Inbox


def _message(kind: str, number: int = 0) -> Message:
    return Message(kind, {"number": number})


async def _read(inbox: Inbox, count: int) -> list[tuple[str, int]]:
    read = [await anext(inbox) for _ in range(count)]
    return [(message.type, message.data["number"]) for message in read]


async def test_messages_come_out_in_the_order_in_which_they_came() -> None:
    inbox = Inbox()
    for number in range(3):
        assert inbox.put(_message("executing", number))
    assert await _read(inbox, 3) == [("executing", 0), ("executing", 1), ("executing", 2)]


async def test_a_full_buffer_drops_the_oldest_progress_first() -> None:
    inbox = Inbox(limit=3)
    for number, kind in enumerate(["executing", "progress", "progress", "executed"]):
        assert inbox.put(_message(kind, number))
    assert await _read(inbox, 3) == [("executing", 0), ("progress", 2), ("executed", 3)]


async def test_new_progress_is_dropped_when_nothing_else_can_be() -> None:
    inbox = Inbox(limit=1)
    assert inbox.put(_message("executed", 1))
    assert inbox.put(_message("progress", 2))
    assert await _read(inbox, 1) == [("executed", 1)]


async def test_what_must_not_be_lost_and_does_not_fit_is_refused() -> None:
    inbox = Inbox(limit=1)
    assert inbox.put(_message("executed"))
    assert not inbox.put(_message("execution_success"))
