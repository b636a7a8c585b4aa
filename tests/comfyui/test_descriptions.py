"""Node descriptions: kept, shared, and never waited for without need."""

import asyncio

import pytest

from sidecar.comfyui import ObjectInfo
from sidecar.comfyui.descriptions import USABLE, Descriptions
from sidecar.errors import UnavailableError

SECONDS = 30.0


class Source:
    """ComfyUI: each answer is numbered, and may be held back or refused. Its time is the test's."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 0.0
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.kept = Descriptions(self._fetch, SECONDS, lambda: self.now)

    async def _fetch(self) -> ObjectInfo:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.away:
            raise UnavailableError("comfyui", "away")
        return {"number": number}


async def test_a_young_copy_is_answered_without_asking() -> None:
    source = Source()
    await source.kept.get()
    source.now += SECONDS - 1
    assert await source.kept.get() == {"number": 1}
    assert source.asked == 1


async def test_an_older_copy_is_answered_at_once_and_asked_for_again() -> None:
    source = Source()
    await source.kept.get()
    source.now += SECONDS
    source.open.clear()
    assert await source.kept.get() == {"number": 1}
    source.open.set()
    assert await source.kept.get_fresh() == {"number": 3}


async def test_a_copy_that_is_too_old_is_waited_for() -> None:
    source = Source()
    await source.kept.get()
    source.now += SECONDS * USABLE
    assert await source.kept.get() == {"number": 2}


async def test_many_who_ask_at_once_share_one_answer() -> None:
    source = Source()
    answers = await asyncio.gather(*(source.kept.get() for _ in range(10)))
    assert answers == [{"number": 1}] * 10
    assert source.asked == 1


async def test_fresh_is_never_an_answer_that_was_asked_for_before() -> None:
    source = Source()
    source.open.clear()
    first = asyncio.create_task(source.kept.get())
    await asyncio.sleep(0)
    fresh = [asyncio.create_task(source.kept.get_fresh()) for _ in range(3)]
    await asyncio.sleep(0)
    source.open.set()
    assert await first == {"number": 1}
    assert await asyncio.gather(*fresh) == [{"number": 2}] * 3


async def test_one_who_gives_up_does_not_end_it_for_the_others() -> None:
    source = Source()
    source.open.clear()
    impatient, patient = (asyncio.create_task(source.kept.get()) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    source.open.set()
    assert await patient == {"number": 1}


async def test_while_comfyui_is_away_the_known_copy_serves_on() -> None:
    source = Source()
    await source.kept.get()
    source.away = True
    source.now += SECONDS
    assert await source.kept.get() == {"number": 1}
    with pytest.raises(UnavailableError):
        await source.kept.get_fresh()
    assert await source.kept.get() == {"number": 1}
    await source.kept.close()


async def test_an_error_is_not_kept() -> None:
    source = Source()
    source.away = True
    with pytest.raises(UnavailableError):
        await source.kept.get()
    source.away = False
    assert await source.kept.get() == {"number": 2}
