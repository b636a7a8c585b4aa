"""Graphs whose nodes depend on many others, as ComfyUI copies them."""

from typing import Any

Graph = dict[str, Any]


def layered(layers: int, width: int = 10, *, plain: int = 0) -> Graph:
    """Each node has links to all nodes of the layer before it, and ``plain`` numbers."""
    graph: Graph = {"start": _empty_image(layers)}
    before = ["start"]
    for layer in range(layers):
        links = {f"z{n}": [source, 0] for n, source in enumerate(before)}
        numbers = {f"p{n}": n for n in range(plain)}
        here = [f"{layer}.{n}" for n in range(width)]
        for node in here:
            inputs = {"image": [before[0], 0], **links, **numbers}
            graph[node] = {"class_type": "ImageInvert", "inputs": inputs}
        before = here
    return graph


def serial(length: int) -> Graph:
    """Each node has links to the three before it and four numbers: a big graph of the usual kind,
    but that all of it hangs together.
    """
    graph: Graph = {}
    for n in range(length):
        links = {f"z{back}": [str(n - back), 0] for back in (1, 2, 3) if n >= back}
        numbers = {f"p{each}": each for each in range(4)}
        graph[str(n)] = {"class_type": "ImageInvert", "inputs": {**links, **numbers}}
    return graph


def under(values: int, nodes: int) -> Graph:
    """A list of so many values, and so many nodes behind it."""
    graph: Graph = {"0": {**_empty_image(0)}}
    graph["0"]["inputs"]["list"] = list(range(values))
    for n in range(nodes):
        graph[f"b{n}"] = {"class_type": "ImageInvert", "inputs": {"image": ["0", 0]}}
    return graph


def _empty_image(color: int) -> dict[str, Any]:
    inputs = {"width": 8, "height": 8, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}
