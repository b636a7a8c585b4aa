"""The prompts that stop ComfyUI itself, told from all others before its handler sees them.

Every rule here was seen to kill the process or its one worker thread, or to make answers unreadable
for everybody, on ComfyUI 0.3.64. What is merely wrong stays ComfyUI's to refuse.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

MAX_DEPTH = 200
"""Nested deeper, the worker's copy of the prompt runs out of stack (at about 500)."""

MAX_CHAIN = 500
"""Nodes one behind the other; the worker walks them recursively (ends between 600 and 900)."""

MAX_NODES = 5000

MAX_COPIES = 1_000_000
"""Values of inputs, each counted for its own node and for every node behind that one. The worker
keeps two copies of each, of 0.37 kB: a million is 0.75 GB."""


@dataclass(frozen=True)
class Flaw:
    """Why a prompt is refused, in ComfyUI's terms. The editor shows message and details."""

    type: str
    message: str
    extra_info: Mapping[str, Any] = field(default_factory=dict)
    details: str = ""


def flaw_in(body: Mapping[str, Any]) -> Flaw | None:
    """The first thing in the body of ``POST /prompt`` that would stop ComfyUI, or None."""
    for flaw in _flaws(body):
        return flaw
    return None


def endless_number_in(body: Mapping[str, Any]) -> Flaw | None:
    """A text that ComfyUI may read as NaN or infinity: its history is no JSON from then on.

    For prompts that the sidecar has not seen, which knows the inputs that are numbers.
    """
    for node_id, node in body.get("prompt", {}).items():
        for name, value in node["inputs"].items():
            text = _unwrapped(value)
            if isinstance(text, str) and _is_number(text) and not _is_finite_number(text):
                why = f"{name} of node #{node_id} is not a finite number."
                return Flaw("invalid_number", why, {"node_id": node_id})
    return None


def _flaws(body: Mapping[str, Any]) -> Iterator[Flaw]:
    yield from _unsafe_values(body)
    if not _is_finite_number(body.get("number", 0)):
        yield Flaw("invalid_number", "number must be a finite number.")
    extra = body.get("extra_data", {})
    if not isinstance(extra, dict):
        yield Flaw("invalid_extra_data", "extra_data must be an object.")
    for source in (body, extra):
        if not isinstance(source.get("client_id"), str | None):
            yield Flaw("invalid_client_id", "client_id must be a text.")
    if "prompt" in body:
        yield from _bad_nodes(body["prompt"])


def _bad_nodes(prompt: Any) -> Iterator[Flaw]:
    if not isinstance(prompt, dict):
        yield Flaw("invalid_prompt", "prompt must be an object of nodes.")
        return
    if len(prompt) > MAX_NODES:
        yield Flaw("prompt_too_large", f"A prompt may have {MAX_NODES} nodes.")
    for node_id, node in prompt.items():
        where = {"node_id": node_id}
        if not isinstance(node, dict):
            yield Flaw("invalid_prompt", f"Node #{node_id} must be an object.", where)
        elif not isinstance(node.get("class_type"), str):
            yield Flaw("invalid_prompt", f"Node #{node_id} has no class_type.", where)
        elif not isinstance(node.get("inputs"), dict):
            yield Flaw("invalid_prompt", f"Node #{node_id} has no inputs object.", where)
        elif missing := [each for each in _sources(node) if each not in prompt]:
            # validation looks at declared inputs alone, the worker follows every link
            yield Flaw("invalid_prompt", f"Node #{node_id} needs node #{missing[0]}.", where)
    if longest_chain(prompt) > MAX_CHAIN:
        yield Flaw("prompt_too_long", f"More than {MAX_CHAIN} nodes hang one behind the other.")
    if copies_of(prompt) > MAX_COPIES:
        too_dense = "Too many nodes depend on too many others: ComfyUI would run out of memory."
        yield Flaw("prompt_too_dense", too_dense, {"max_copies": MAX_COPIES})


def _unsafe_values(body: Mapping[str, Any]) -> Iterator[Flaw]:
    stack: list[tuple[Any, int]] = [(body, 1)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield Flaw("invalid_number", "NaN and Infinity are not JSON numbers.")
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                yield Flaw("prompt_too_deep", f"JSON may nest {MAX_DEPTH} deep.")
                return
            inner = value.values() if isinstance(value, dict) else value
            stack.extend((each, depth + 1) for each in inner)


def _is_finite_number(value: Any) -> bool:
    """As ComfyUI's own ``float(number)`` sees it: "nan" as a text becomes a NaN there."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def longest_chain(prompt: Mapping[str, Any]) -> int:
    """How many nodes hang one behind the other at most; all of them where links go in a circle."""
    order = _sources_first(prompt)
    if order is None:
        return len(prompt)
    heights: dict[str, int] = {}
    for node_id in order:
        heights[node_id] = 1 + max((heights[s] for s in _sources(prompt[node_id])), default=0)
    return max(heights.values(), default=0)


def copies_of(prompt: Mapping[str, Any]) -> int:
    """How many values the worker copies: in the key of each node stand the inputs of all before it.

    As if each node were before each where links go in a circle, and no further than the limit.
    """
    sizes = {node_id: _size(node["inputs"]) for node_id, node in prompt.items()}
    copies = sum(sizes.values())
    if copies > MAX_COPIES:
        return copies
    order = _sources_first(prompt)
    if order is None:
        return copies * len(prompt)
    behind = dict.fromkeys(order, 0)  # sets of nodes, a bit for each
    copies = 0
    for place, node_id in enumerate(reversed(order)):
        users = behind.pop(node_id) | 1 << place
        copies += users.bit_count() * sizes[node_id]
        for source in _sources(prompt[node_id]):
            behind[source] |= users
    return copies


def _sources_first(prompt: Mapping[str, Any]) -> Sequence[str] | None:
    """Every node, after all that it has links to; None where links go in a circle."""
    links = {node_id: _sources(node) for node_id, node in prompt.items()}
    try:
        return tuple(TopologicalSorter(links).static_order())
    except CycleError:
        return None


def _size(value: Any) -> int:
    """How many values a JSON value is made of, itself included."""
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        count += 1
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return count


def _sources(node: Mapping[str, Any]) -> Sequence[str]:
    """The nodes it has links to, whether they are there or not."""
    values = map(_unwrapped, node["inputs"].values())
    return [
        value[0]
        for value in values
        if isinstance(value, list) and len(value) == 2
        if isinstance(value[0], str) and isinstance(value[1], int | float)
    ]


def _unwrapped(value: Any) -> Any:
    """ComfyUI turns ``{"__value__": x}`` into ``x`` after it has looked for links."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value
