"""Noticing what others do in ComfyUI's LoRA folder: at once where the system tells, else soon."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from ...durable import in_thread, make_folder
from ...errors import AtelierError
from ..names import SUFFIX
from .tidying import Tidier

SCAN_SECONDS = 600.0
"""A network share tells nothing of what other machines do: a look at every file finds it."""
SETTLE_SECONDS = 0.5
"""Somebody who copies a file causes many events."""

log = logging.getLogger(__name__)


class FolderWatch:
    """Has the folder tidied after each change, and every now and then."""

    def __init__(
        self,
        tidier: Tidier,
        folder: Path,
        *,
        scan_seconds: float = SCAN_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._tidier = tidier
        self._folder = folder
        self._scan_seconds = scan_seconds
        self._settle_seconds = settle_seconds
        self._changed: set[Path] = set()
        self._news = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        await in_thread(make_folder, self._folder)
        loop = asyncio.get_running_loop()

        def tell(paths: list[Path]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._note, paths)

        observer = await in_thread(_observer, self._folder, tell)
        tasks = [asyncio.create_task(self._scan()), asyncio.create_task(self._follow())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if observer is not None:
                await in_thread(_stop, observer)

    def _note(self, paths: list[Path]) -> None:
        self._changed.update(paths)
        self._news.set()

    async def _follow(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(self._settle_seconds)
            self._news.clear()
            changed, self._changed = self._changed, set()
            try:
                await self._tidier.look(changed)
            except AtelierError as error:  # the scan looks again
                log.warning("loras.not_watched", extra={"code": error.code})

    async def _scan(self) -> None:
        while True:
            try:
                await self._tidier.scan()
            except AtelierError as error:
                log.warning("loras.not_scanned", extra={"code": error.code})
            await asyncio.sleep(self._scan_seconds)


class _Handler(FileSystemEventHandler):
    """Passes on which LoRA files changed; that one was opened and read is no change."""

    def __init__(self, tell: Callable[[list[Path]], None]) -> None:
        self._tell = tell

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called by watchdog, in a thread of its own."""
        if event.event_type in ("opened", "closed_no_write") or event.is_directory:
            return
        names = [os.fsdecode(each) for each in (event.src_path, event.dest_path) if each]
        if paths := [Path(name) for name in names if name.endswith(SUFFIX)]:
            self._tell(paths)


def _observer(folder: Path, tell: Callable[[list[Path]], None]) -> BaseObserver | None:
    """One that has begun; None where the system has no such thing left to give."""
    observer = Observer()
    observer.schedule(_Handler(tell), str(folder), recursive=True)
    try:
        observer.start()
    except OSError as error:
        log.warning("loras.no_observer", extra={"reason": str(error)})
        return None
    return observer


def _stop(observer: BaseObserver) -> None:
    observer.stop()
    observer.join()
