"""What a ``MixLoader`` changes in the graph of stages that FFCV builds: their order and their memory.

FFCV walks sets of nodes, so that label stages run before or behind image stages by chance; a matching needs the images
first.
"""

from __future__ import annotations

from typing import Any

from ffcv.pipeline.graph import Graph, Node

from .memory import slot_memory
from .stages import MixImage, MixLabel


def ordered_stages(graph: Graph) -> list[list[int]]:
    """The nodes in the order they run in: groups, compiled and not in turn, all images mixed before any label."""
    images = {node for node in graph.nodes if isinstance(operation(node), MixImage)}
    waiting: list[Node] = list(graph.root_nodes)
    placed: set[Node] = set()
    stages: list[list[int]] = []
    while waiting:
        compiled = len(stages) % 2 == 0
        stage: list[int] = []
        while ready := [
            node
            for node in waiting
            if node.is_jitted in (None, compiled) and (images <= placed or not isinstance(operation(node), MixLabel))
        ]:
            for node in ready:
                waiting.remove(node)
                waiting.extend(graph.adjacency_list[node])
                placed.add(node)
                stage.append(node.id)
        stages.append(stage)
    return stages


def allocate(graph: Graph, batch_size: int, slots: int) -> dict[str, dict[int, Any]]:
    """Memory for the stages of an epoch, in FFCV's form."""
    queries, _ = graph.collect_requirements()
    return {
        kind: {node: slot_memory(query, batch_size, slots) for node, query in nodes.items()}
        for kind, nodes in queries.items()
    }


def operation(node: Node) -> Any:
    """The stage of a node, None for decoders and references."""
    return getattr(node, "operation", None)


def pipeline_of(node: Node) -> list[Any]:
    """The stages whose result a node hands on, first to last."""
    stages: list[Any] = []
    step: Node | None = node
    while step is not None:
        if operation(step) is not None:
            stages.insert(0, operation(step))
        step = step.parent
    return stages
