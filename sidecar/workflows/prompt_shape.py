"""The shape of a prompt: what ComfyUI's API format must look like before ComfyUI may see it.

ComfyUI 0.3.64 checks only the nodes that an output needs. Of the others, a node without an object
``inputs``, or a chain of links longer than Python's stack, ends its worker thread, and nothing runs
there any more; and what many nodes depend on eats its memory. So every node is checked here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..comfyui import ObjectInfo, Prompt
from ..errors import InvalidError
from .node_inputs import describe

MAX_NODES = 5000
MAX_CHAIN = 500
"""Links in a row. ComfyUI follows them by recursion: 900 ran, 1,200 ended its worker thread."""
MAX_COPIES = 1_000_000
"""Values of inputs, each counted for its own node and for every node behind that one. ComfyUI keeps
two copies of each, of 0.37 kB: a million is 0.75 GB."""
MAX_ID_LENGTH = 100
MAX_CLASS_LENGTH = 300

_WRAPPED = "__value__"  # ComfyUI unwraps {"__value__": x} to x while it validates


def require_prompt(value: Any) -> Prompt:
    """A prompt in API format, reduced to what ComfyUI reads.

    Of each node ``class_type``, ``inputs`` and an object ``_meta`` are kept. Everything else is
    dropped, ``is_changed`` above all: it would stand in for the node's own answer and pin a stale
    result. The values are those of ``value``, not copies.

    Raises InvalidError with one of these codes; ``details.nodes`` says what is wrong with which:
    ``ui_graph`` (the editor's own format), ``invalid_prompt``, ``cyclic_prompt``,
    ``prompt_too_dense``.
    """
    if not isinstance(value, dict) or not value:
        raise _invalid("A prompt is an object with at least one node.", {})
    if isinstance(value.get("nodes"), list) and isinstance(value.get("links"), list):
        raise InvalidError(
            "ui_graph",
            "This is the editor's own format. In ComfyUI choose Workflow > Export (API), "
            "and send that file; the editor's format may come along as `graph`.",
        )
    if len(value) > MAX_NODES:
        raise _invalid(f"A prompt may have {MAX_NODES} nodes; this one has {len(value)}.", {})
    problems = {
        _shown(node_id): problem
        for node_id, node in value.items()
        if (problem := _node_problem(node_id, node))
    }
    if problems := problems or _missing_links(value):
        raise _invalid("Some nodes cannot be accepted.", problems)
    _refuse_what_cannot_be_walked(value)
    return {node_id: _known_keys(node) for node_id, node in value.items()}


def unknown_classes(prompt: Prompt, object_info: ObjectInfo) -> list[tuple[str, str]]:
    """``(node id, class_type)`` of every node that this ComfyUI does not have."""
    return [
        (node_id, node["class_type"])
        for node_id, node in prompt.items()
        if node["class_type"] not in object_info
    ]


def refuse_endless_numbers(prompt: Prompt, object_info: ObjectInfo) -> None:
    """ComfyUI reads the text ``nan`` as a number, and its history is no JSON from then on.

    InvalidError("invalid_prompt"); a text for people (``Infinity``) is not meant.
    """
    problems: dict[str, str] = {}
    for node_id, node in prompt.items():
        for name, value in node["inputs"].items():
            if _is_endless(unwrapped(value)):
                description = describe(object_info, node["class_type"], name)
                if description is not None and description.kind == "FLOAT":
                    problems[node_id] = f"{name} is not a finite number"
    if problems:
        raise _invalid("Some numbers cannot be accepted.", problems)


def is_link(value: Any) -> bool:
    """Whether an input's value comes from another node: ``[node id, index]``.

    A wrapped one counts: ComfyUI takes the wrapping off before it looks.
    """
    value = unwrapped(value)
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
    )


def unwrapped(value: Any) -> Any:
    """An input's value as ComfyUI's nodes get it: ``{"__value__": x}`` stands for ``x``."""
    return value[_WRAPPED] if is_wrapped(value) else value


def is_wrapped(value: Any) -> bool:
    """Whether ComfyUI takes what ``__value__`` holds instead of the value itself."""
    return isinstance(value, dict) and _WRAPPED in value


def is_finite(value: Any) -> bool:
    """Whether every number in a JSON value, however deep, is one that JSON can hold."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            return False
    return True


def _is_endless(value: Any) -> bool:
    """Whether a text is NaN or infinity to Python's float()."""
    try:
        return isinstance(value, str) and not math.isfinite(float(value))
    except ValueError:
        return False


def _node_problem(node_id: Any, node: Any) -> str | None:
    """What is wrong with one node, taken alone."""
    if not isinstance(node_id, str) or not 1 <= len(node_id) <= MAX_ID_LENGTH:
        return f"a node id is a text of 1 to {MAX_ID_LENGTH} characters"
    if not isinstance(node, dict):
        return "a node is an object"
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not 1 <= len(class_type) <= MAX_CLASS_LENGTH:
        return f"class_type must be a text of 1 to {MAX_CLASS_LENGTH} characters"
    inputs = node.get("inputs")
    if not isinstance(inputs, dict) or not all(isinstance(name, str) for name in inputs):
        return "inputs must be an object"
    if not is_finite(inputs):
        return "inputs holds NaN or an infinite number"
    return None


def _known_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    kept = {"inputs": node["inputs"], "class_type": node["class_type"]}
    if isinstance(node.get("_meta"), dict):
        kept["_meta"] = node["_meta"]
    return kept


def _sources(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """``(input, node id it comes from)`` for each link of a node."""
    for name, value in node["inputs"].items():
        if is_link(value):
            yield name, unwrapped(value)[0]


def _missing_links(prompt: Mapping[str, Any]) -> dict[str, str]:
    problems = {}
    for node_id, node in prompt.items():
        missing = [
            f"{name} comes from node {_shown(source)}"
            for name, source in _sources(node)
            if source not in prompt
        ]
        if missing:
            problems[node_id] = f"{', '.join(missing)}, which is not there"
    return problems


def _refuse_what_cannot_be_walked(prompt: Mapping[str, Any]) -> None:
    """Circles, chains that are too long, and too much behind too much."""
    sizes = {node_id: _size(node["inputs"]) for node_id, node in prompt.items()}
    if sum(sizes.values()) > MAX_COPIES:
        raise _too_dense()
    sources = {
        node_id: {source for _, source in _sources(node)} for node_id, node in prompt.items()
    }
    order = _sources_first(sources)
    _refuse_long_chains(order, sources)
    if _copies(order, sources, sizes) > MAX_COPIES:
        raise _too_dense()


def _sources_first(sources: Mapping[str, set[str]]) -> Sequence[str]:
    """Every node, after all that it has links to."""
    try:
        return tuple(TopologicalSorter(sources).static_order())
    except CycleError as error:
        cycle = error.args[1][1:]
        raise InvalidError(
            "cyclic_prompt",
            f"These nodes wait for each other: {', '.join(cycle[:20])}.",
            {"nodes": dict.fromkeys(cycle, "part of a cycle")},
        ) from None


def _refuse_long_chains(order: Sequence[str], sources: Mapping[str, set[str]]) -> None:
    length: dict[str, int] = {}
    for node_id in order:
        length[node_id] = 1 + max((length[source] for source in sources[node_id]), default=-1)
    end = max(length, key=length.__getitem__)
    if length[end] > MAX_CHAIN:
        raise _invalid(
            f"{length[end]} links follow one another; {MAX_CHAIN} may.",
            {end: "at the end of a chain of links that is too long"},
        )


def _copies(order: Sequence[str], sources: Mapping[str, set[str]], sizes: Mapping[str, int]) -> int:
    """How many values ComfyUI copies: in the key of each node stand the inputs of all before it."""
    behind = dict.fromkeys(order, 0)  # sets of nodes, a bit for each
    copies = 0
    for place, node_id in enumerate(reversed(order)):
        users = behind.pop(node_id) | 1 << place
        copies += users.bit_count() * sizes[node_id]
        for source in sources[node_id]:
            behind[source] |= users
    return copies


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


def _too_dense() -> InvalidError:
    return InvalidError(
        "prompt_too_dense",
        "Too many nodes depend on too many others: ComfyUI would run out of memory. "
        "Split the graph, or take away links and values that its nodes do not need.",
        {"max_copies": MAX_COPIES},
    )


def _invalid(message: str, problems: Mapping[str, str]) -> InvalidError:
    return InvalidError("invalid_prompt", message, {"nodes": dict(problems)})


def _shown(node_id: Any) -> str:
    return str(node_id)[:MAX_ID_LENGTH]
