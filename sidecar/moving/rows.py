"""Rows, from source to destination: nothing is overwritten, and everything compared at the end."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ..errors import ConflictError
from ..principal import Principal
from .destination import Destination
from .parts import PARTS, Part, Row, shown_key
from .source import Source

Say = Callable[[str], None]

_SAY_EVERY = 1000


@dataclass(frozen=True)
class Compared:
    """A table on both sides; hashes are over all rows, account by account in the order of keys."""

    name: str
    here: int
    there: int
    sha256_here: str
    sha256_there: str
    difference: str | None
    """The first key that differs."""

    @property
    def is_same(self) -> bool:
        """Whether everything has arrived, and nothing else."""
        return (self.here, self.sha256_here) == (self.there, self.sha256_there)


class Comparison:
    """Both sides of a table, while they are read."""

    def __init__(self) -> None:
        self._rows = [0, 0]
        self._digests = hashlib.sha256(), hashlib.sha256()
        self._difference: str | None = None

    def take(self, here: Sequence[Row], there: Sequence[Row]) -> None:
        """Count and hash the next stretch of keys."""
        for side, rows in enumerate((here, there)):
            self._rows[side] += len(rows)
            for row in rows:
                self._digests[side].update(row.canonical + b"\n")
        self._difference = self._difference or _difference(here, there)

    def result(self, name: str) -> Compared:
        """What was found."""
        here, there = (digest.hexdigest() for digest in self._digests)
        return Compared(name, self._rows[0], self._rows[1], here, there, self._difference)


class RowMove:
    """Moves the rows of a studio."""

    def __init__(self, source: Source, destination: Destination, say: Say) -> None:
        self._source = source
        self._destination = destination
        self._say = say

    async def check(self) -> bool:
        """Whether an earlier move brought rows already, all of them as they still are here.

        ConflictError("destination_in_use") for a row that the source does not have, and
        ConflictError("destination_differs") for one that is another here. Nothing was written.
        """
        found = False
        async for part, who in self._all():
            if await self._destination.first_key(part, who) is None:
                continue
            found = True
            async for here, there in self._side_by_side(part, who):
                _refuse_strangers(part, here, there)
        return found

    async def copy(self) -> None:
        """Write what is missing."""
        owners = [*await self._source.owners()]
        for part in PARTS:
            total, done, said = await self._source.count(part), 0, 0
            for who in part.askers(owners):
                async for batch in self._batches(part, who):
                    await self._destination.add(part, who, batch)
                    done += len(batch)
                    if done - said >= _SAY_EVERY:
                        said = done
                        self._say(f"{part.name}: {done} of {total} rows")
            if done != said:
                self._say(f"{part.name}: {done} of {total} rows")

    async def compare(self) -> Sequence[Compared]:
        """Every table, read anew from both sides."""
        tables = {part.name: Comparison() for part in PARTS}
        async for part, who in self._all():
            async for here, there in self._side_by_side(part, who):
                tables[part.name].take(here, there)
        return [comparison.result(name) for name, comparison in tables.items()]

    async def _all(self) -> AsyncIterator[tuple[Part, Principal]]:
        owners = [*await self._source.owners() | await self._destination.owners()]
        for part in PARTS:
            for who in part.askers(owners):
                yield part, who

    async def _batches(self, part: Part, who: Principal) -> AsyncIterator[Sequence[Row]]:
        after = None
        while batch := await self._source.batch(part, who, after):
            yield batch
            after = batch[-1].key

    async def _side_by_side(
        self, part: Part, who: Principal
    ) -> AsyncIterator[tuple[Sequence[Row], Sequence[Row]]]:
        """The same stretch of keys on both sides, again and again, until neither has more."""
        after = None
        async for batch in self._batches(part, who):
            until = batch[-1].key
            # one row too many is enough to tell that there are too many
            yield batch, await self._destination.rows(part, who, after, until, len(batch) + 1)
            after = until
        more = await self._destination.first_key(part, who, after)
        if more is not None:
            yield [], await self._destination.rows(part, who, after, more, 1)


def _refuse_strangers(part: Part, here: Sequence[Row], there: Sequence[Row]) -> None:
    known = {row.key: row.canonical for row in here}
    for row in there:
        where = {"table": part.name, "key": shown_key(row.key)}
        if row.key not in known:
            raise ConflictError(
                "destination_in_use",
                f"The destination has a row in {part.name} that this studio has not "
                f"({where['key']}): it must be empty, or hold an unfinished copy of this studio.",
                where,
            )
        if row.canonical != known[row.key]:
            raise ConflictError(
                "destination_differs",
                f"The row {where['key']} of {part.name} is another at the destination: it, or this "
                "studio, was used since. Nothing was overwritten.",
                where,
            )


def _difference(here: Sequence[Row], there: Sequence[Row]) -> str | None:
    """The first key that only one side has, or that has other values on the other."""
    left, right = ({row.key: row.canonical for row in rows} for rows in (here, there))
    unlike = {key for key in left.keys() | right.keys() if left.get(key) != right.get(key)}
    return shown_key(min(unlike)) if unlike else None
