"""LoRAs over HTTP."""

from aiohttp import web

from ..http.bodies import path_id, path_number, read_json, read_query, reply
from ..http.files import Download, send_file
from ..http.keys import principal_of
from ..http.routing import Part, Route
from .intake import LoraIntake, Taken
from .multipart import OVERHEAD_BYTES, upload_parts
from .service import LoraService
from .share_routes import ROUTES as SHARE_ROUTES
from .views import (
    LoraChange,
    LoraList,
    LoraNames,
    LoraQuery,
    LoraView,
    VersionQuery,
    VersionUsesView,
)

LORAS = web.AppKey("loras", LoraService)
INTAKE = web.AppKey("lora_intake", LoraIntake)

_FILE = Part("file", "file", required=True, note="A .safetensors file.")
_TAGS = "A JSON list of texts, or words between commas."


async def add(request: web.Request) -> web.Response:
    """Store a LoRA, or the next version of one."""
    principal, intake = principal_of(request), request.app[INTAKE]
    await _refuse_unaffordable(request, intake)
    taken = await intake.add(principal, upload_parts(request))
    return await _taken(request, taken)


async def page(request: web.Request) -> web.Response:
    """List LoRAs."""
    asked = read_query(request, LoraQuery)
    return reply(LoraList.of(await request.app[LORAS].page(principal_of(request), asked)))


async def names(request: web.Request) -> web.Response:
    """List what a prompt may name."""
    found = await request.app[LORAS].names(principal_of(request))
    return reply(LoraNames(list(found)))


async def get(request: web.Request) -> web.Response:
    """Show a LoRA."""
    found = await request.app[LORAS].get(principal_of(request), path_id(request, "lora"))
    return reply(LoraView.of_detail(found))


async def edit(request: web.Request) -> web.Response:
    """Change a LoRA's name, description or tags."""
    lora_id = path_id(request, "lora")
    change = await read_json(request, LoraChange)
    changed = await request.app[LORAS].edit(principal_of(request), lora_id, change)
    return reply(LoraView.of_detail(changed))


async def delete(request: web.Request) -> web.Response:
    """Delete a LoRA."""
    await request.app[LORAS].delete(principal_of(request), path_id(request, "lora"))
    return web.Response(status=204)


async def file(request: web.Request) -> web.StreamResponse:
    """Download a version."""
    asked = read_query(request, VersionQuery)
    found = await request.app[LORAS].file(
        principal_of(request), path_id(request, "lora"), asked.version
    )
    if found.link is not None and request.method == "GET":
        headers = {"Location": found.link, "Cache-Control": "no-store"}
        return web.Response(status=307, headers=headers)
    download = Download(found.filename, "application/octet-stream", found.size, found.sha256)
    return await send_file(request, download, found.open)


async def add_version(request: web.Request) -> web.Response:
    """Store a further version."""
    principal, intake = principal_of(request), request.app[INTAKE]
    lora_id = path_id(request, "lora")
    await _refuse_unaffordable(request, intake)
    taken = await intake.add_version(principal, lora_id, upload_parts(request))
    return await _taken(request, taken)


async def restore(request: web.Request) -> web.Response:
    """Make an older version the head again."""
    restored = await request.app[LORAS].restore(
        principal_of(request),
        path_id(request, "lora"),
        path_number(request, "lora_version", "version"),
    )
    return reply(LoraView.of_detail(restored))


async def delete_version(request: web.Request) -> web.Response:
    """Delete one version."""
    await request.app[LORAS].delete_version(
        principal_of(request),
        path_id(request, "lora"),
        path_number(request, "lora_version", "version"),
    )
    return web.Response(status=204)


async def uses(request: web.Request) -> web.Response:
    """Show what a version is used by."""
    found = await request.app[LORAS].uses(
        principal_of(request),
        path_id(request, "lora"),
        path_number(request, "lora_version", "version"),
    )
    return reply(VersionUsesView.of(found))


async def _refuse_unaffordable(request: web.Request, intake: LoraIntake) -> None:
    """Before the bytes are sent, where a request says how many they are."""
    if request.content_length is not None:
        least = max(0, request.content_length - OVERHEAD_BYTES)
        await intake.refuse_unaffordable(principal_of(request), least)


async def _taken(request: web.Request, taken: Taken) -> web.Response:
    detail = await request.app[LORAS].get(principal_of(request), taken.lora_id)
    return reply(LoraView.of_detail(detail), status=201 if taken.created else 200)


ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/loras",
        add,
        "Upload a LoRA; under a name you have it is the next version. "
        "Bytes that are there already answer 200.",
        form=(
            _FILE,
            Part("name", "text", note="By default the file's."),
            Part("description", "text"),
            Part("tags", "text", note=_TAGS),
        ),
        answer=LoraView,
        status=201,
        also=(200,),
        errors=(409, 413, 415, 503, 507),
    ),
    Route("GET", "/loras", page, "List LoRAs", query=LoraQuery, answer=LoraList),
    Route(
        "GET",
        "/loras/names",
        names,
        "What a prompt may name: your LoRAs, ComfyUI's shared files, what is shared with you",
        answer=LoraNames,
    ),
    Route("GET", "/loras/{id}", get, "Show a LoRA", answer=LoraView, errors=(404,)),
    Route(
        "PATCH",
        "/loras/{id}",
        edit,
        "Change a LoRA's name, description or tags",
        body=LoraChange,
        answer=LoraView,
        errors=(404, 409, 413),
    ),
    Route(
        "DELETE",
        "/loras/{id}",
        delete,
        "Delete a LoRA and its files; not while a run needs it",
        status=204,
        errors=(404, 409),
    ),
    Route(
        "GET",
        "/loras/{id}/file",
        file,
        "Download a LoRA's newest version or another one",
        query=VersionQuery,
        also=(206, 307),
        content_type="application/octet-stream",
        errors=(403, 404, 416, 503),
    ),
    Route(
        "POST",
        "/loras/{id}/versions",
        add_version,
        "Upload a further version, which becomes the head",
        form=(_FILE,),
        answer=LoraView,
        status=201,
        also=(200,),
        errors=(404, 409, 413, 415, 503, 507),
    ),
    Route(
        "POST",
        "/loras/{id}/versions/{version}/restore",
        restore,
        "Make an older version the head again",
        answer=LoraView,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/loras/{id}/versions/{version}",
        delete_version,
        "Delete a version that is not the head; not while a run needs it",
        status=204,
        errors=(404, 409),
    ),
    Route(
        "GET",
        "/loras/{id}/versions/{version}/uses",
        uses,
        "Which runs and workflows a version is used by",
        answer=VersionUsesView,
        errors=(404,),
    ),
    *SHARE_ROUTES,
)
