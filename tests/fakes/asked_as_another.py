"""Asks every route as somebody about another's things, and says what was wrong with the answers.

Each request is made twice, with the other's names and with names that nothing has; the two answers
must be the same but for the names. ``Findings`` are sentences by the route that they are about.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from requests_about import PACK_TABLE, TABLE, Entry, Request, requests
from two_people import Person, Things, never

from sidecar.app import ROUTES
from sidecar.http.routing import Access, Route
from sidecar.runs.pack_routes import ROUTES as PACK_ROUTES

KEYS = {(route.method, route.path): route for route in ROUTES}
PACK_KEYS = {(route.method, route.path): route for route in PACK_ROUTES}
FOR_ANYBODY = (Access.OPEN, Access.WELCOME)
MADE = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b(ats|atl)_[\w-]+"), "<token>"),
    (re.compile(r"\.[0-9a-f]{8}\.safetensors"), ".<hash>.safetensors"),
    (re.compile(r"\b[0-9a-fA-F]{10,64}\b"), "<hash>"),
    (re.compile(r'"position": ?\d+'), '"position": <number>'),
)
"""What every request makes anew."""

Findings = defaultdict[str, list[str]]


def label(key: tuple[str, str]) -> str:
    """A route as findings name it."""
    return " ".join(key)


@dataclass(frozen=True)
class Answer:
    """What was answered. ``length`` is what was announced."""

    status: int
    headers: frozenset[str]
    length: int | None
    text: str
    raw: str = field(compare=False)

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], data: bytes, about: Things) -> "Answer":
        """With each name that was asked for replaced by what it is."""
        try:
            raw = data.decode()
        except UnicodeDecodeError:
            raw = hashlib.sha256(data).hexdigest()
        text = raw
        for name, value in about.named():
            text = text.replace(value, f"<{name}>")
        for pattern, what in MADE:
            text = pattern.sub(what, text)
        length = headers.get("Content-Length") if status >= 400 else None
        kept = frozenset(name.title() for name in headers)
        return cls(status, kept, None if length is None else int(length), text, raw)


Show = Mapping[str, str]
"""Headers that say who asks."""


def as_(person: Person, **more: str) -> Show:
    """Headers of somebody signed in."""
    return {"Authorization": f"Bearer {person.bearer}", **more}


async def answer(client: Person, request: Request, show: Show, about: Things) -> Answer:
    """Make a request. Its own headers win: some are about a credential."""
    options = request.options()
    options["headers"] = {**show, **options["headers"]}
    studio = client.studio
    url = studio.host + request.path[1:] if request.path.startswith("//") else None
    async with studio.session.request(
        request.method, url or studio.api + request.path, **options
    ) as response:
        data = await response.read()
        return Answer.of(response.status, response.headers, data, about)


def in_order(asked: Iterable[tuple[tuple[str, str], Request]]) -> list[tuple[Any, Request]]:
    """Reads first, then changes, what takes a name, and deletions."""
    methods = ("OPTIONS", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    return sorted(
        asked,
        key=lambda each: (each[0][0] == "DELETE", each[1].late, methods.index(each[0][0])),
    )


@dataclass
class Inquiry:
    """``other`` and all that stands in that one's rows alone; ``asker`` with things of their own.

    ``nobody`` has names of the same form as the other's.
    """

    asker: Person
    own: Things
    other: Things
    secrets: frozenset[str]
    findings: Findings
    nobody: Things = field(init=False)

    def __post_init__(self) -> None:
        self.nobody = never(self.other)

    async def ask_everything(self) -> None:
        """Every route as the asker, signed in."""
        for key, real, vain in self.pairs(TABLE, KEYS):
            await self.compare(key, real, vain, as_(self.asker))
            if key[0] == "GET" and KEYS[key].content_type != "text/event-stream":
                heads = [
                    Request("HEAD", each.path, each.params, headers=each.headers)
                    for each in (real, vain)
                ]
                await self.compare(key, *heads, as_(self.asker))

    async def look_for_secrets(self) -> None:
        """The reads alone, and only what they show of the other."""
        for key, real, _ in self.pairs(TABLE, KEYS):
            if key[0] == "GET":
                told = await answer(self.asker, real, as_(self.asker), self.other)
                self._look_for_secrets(key, real, told)

    async def ask_without(self) -> None:
        """Every route, once, with nothing, with a token that lacks the scope, for the other."""
        once = {key: (real, vain) for key, real, vain in self.pairs(TABLE, KEYS)}
        for key, (real, vain) in once.items():
            route = KEYS[key]
            if route.access in FOR_ANYBODY:
                continue
            show: Show = {}
            await self.refused(key, real, vain, show, 401, "sign_in_required")
            show = {"Authorization": f"Bearer {self.asker.lacking[route.needs]}"}
            code = "admins_only" if route.access is Access.ADMIN else "scope_missing"
            await self.refused(key, real, vain, show, 403, code)
            acting = [
                Request(each.method, each.path, each.params, each.body, each.form, show)
                for each, show in (
                    (real, {"X-Atelier-As": self.other.account}),
                    (vain, {"X-Atelier-As": self.nobody.account}),
                )
            ]
            await self.refused(key, *acting, as_(self.asker), 403, "admins_only")

    async def ask_for_admins(self) -> None:
        """Routes for admins alone, as no admin."""
        for key, real, vain in self.pairs(TABLE, KEYS):
            if KEYS[key].access is Access.ADMIN:
                await self.refused(key, real, vain, as_(self.asker), 403, "admins_only")

    async def ask_as_an_admin(self) -> None:
        """Every route but those for admins, as an admin who does not say for whom."""
        for key, real, vain in self.pairs(TABLE, KEYS):
            if KEYS[key].access is not Access.ADMIN and not real.late:
                await self.compare(key, real, vain, as_(self.asker))

    async def ask_as_the_pack(self) -> None:
        """What the pack asks: without its token, with the asker's credentials, and with none."""
        pack = self.asker.studio.pack
        for key, real, vain in self.pairs(PACK_TABLE, PACK_KEYS):
            await self.refused(key, real, vain, as_(self.asker), 401, "bad_pack_token")
            if real.speaks_for_the_prompt:
                continue
            await self.compare(key, real, vain, as_(self.asker, **pack))
            if (real.body or {}).get("prompt_id") is None:
                await self.refused(key, real, vain, pack, 401, "sign_in_required")

    async def ask_for_the_prompt(self) -> None:
        """What the pack alone may: the prompt's owner counts, whoever's credentials it shows."""
        for key, real, _ in self.pairs(PACK_TABLE, PACK_KEYS):
            if real.speaks_for_the_prompt:
                show = as_(self.asker, **self.asker.studio.pack)
                told = await answer(self.asker, real, show, self.other)
                if told.status not in real.real:
                    self._note(key, real, f"the pack is not answered: {told}")

    async def compare(
        self, key: tuple[str, str], real: Request, vain: Request, show: Show
    ) -> Answer:
        """Both must be told the same, and nothing that is the other's."""
        told = await answer(self.asker, real, show, self.other)
        self._look_for_secrets(key, real, told)
        as_nobody = await answer(self.asker, vain, show, self.nobody)
        if told != as_nobody:
            self._note(key, real, f"answers {told} where nothing is asked for: {as_nobody}")
        return told

    async def refused(
        self,
        key: tuple[str, str],
        real: Request,
        vain: Request,
        show: Show,
        status: int,
        code: str,
    ) -> None:
        """As ``compare``, and the refusal must be this one."""
        told = await self.compare(key, real, vain, show)
        if told.status != status or f'"code": "{code}"' not in told.text:
            self._note(key, real, f"should be refused with {status} {code}: {told}")

    async def reads(self, about: Things) -> dict[str, Answer]:
        """What the asker's reads about somebody answer at this moment."""
        return {
            f"{label(key)} {number}": await answer(self.asker, request, as_(self.asker), about)
            for key in KEYS
            if key[0] == "GET" and KEYS[key].access is not Access.ADMIN
            for number, request in enumerate(requests(key, about, self.own))
        }

    def pairs(
        self, table: Mapping[tuple[str, str], Entry], routes: Mapping[tuple[str, str], Route]
    ) -> Sequence[tuple[tuple[str, str], Request, Request]]:
        """Each request about the other with its twin about nothing."""
        twins = [
            (key, real, vain)
            for key in routes
            if key in table
            for real, vain in zip(
                requests(key, self.other, self.own, table=table),
                requests(key, self.nobody, self.own, table=table),
                strict=True,
            )
        ]
        by_request = {id(real): vain for _, real, vain in twins}
        ordered = in_order([(key, real) for key, real, _ in twins])
        return [(key, real, by_request[id(real)]) for key, real in ordered]

    def _look_for_secrets(self, key: tuple[str, str], request: Request, told: Answer) -> None:
        said = request.said() if request.repeats else ""
        shown = sorted(s for s in self.secrets if s in told.raw and s not in said)
        if shown:
            self._note(key, request, f"shows what is another's: {shown}")

    def _note(self, key: tuple[str, str], request: Request, what: str) -> None:
        self.findings[label(key)].append(f"{request.method} {request.said()} {what}")


async def ask_as_owner(
    owner: Person, things: Things, admin: Person, secrets: frozenset[str], findings: Findings
) -> None:
    """The same requests by whose the things are must get real answers, or they prove nothing."""
    asked = [(key, r, TABLE) for key in KEYS if key in TABLE for r in requests(key, things, things)]
    asked += [
        (key, request, PACK_TABLE)
        for key in PACK_KEYS
        for request in requests(key, things, things, table=PACK_TABLE)
    ]
    tables: dict[int, Any] = {id(request): table for _, request, table in asked}
    for key, request in in_order((key, request) for key, request, _ in asked):
        of_pack = tables[id(request)] is PACK_TABLE
        route = PACK_KEYS[key] if of_pack else KEYS[key]
        show = as_(admin if route.access is Access.ADMIN else owner)
        told = await answer(owner, request, {**show, **owner.studio.pack}, things)
        if told.status not in request.real:
            findings[label(key)].append(f"its owner gets no answer to {request}: {told}")
        elif request.method == "GET" and request.shows and not any(s in told.raw for s in secrets):
            findings[label(key)].append(f"shows its owner nothing at {request}: {told}")
