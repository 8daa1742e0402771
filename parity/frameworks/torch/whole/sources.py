"""Which node of a graph gives what which module gives: for comparisons layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from parity.frameworks.torch.whole.calling import module_values
from parity.frameworks.torch.whole.tracing import Traced
from parity.frameworks.torch.whole.values import Value
from parity.graph import Builder, Wire


def put_sources(
    build: Builder, module: nn.Module, traced: Traced, given: Mapping[Any, tuple[Value, int, int]]
) -> None:
    """Write the path of every innermost module to the node that gives its output; "path@1" at its second call.

    Only modules that return one tensor have such a node for sure; recurrent ones name theirs while they are read.
    """
    single = {
        name for name, value in module_values(module, traced.example).items() if isinstance(value, Tensor)
    }
    calls: dict[str, list[Any]] = {}
    outer: set[str] = set()
    for node in given:
        stack = node.meta.get("nn_module_stack") or {}
        keys = list(stack)
        if keys:
            calls.setdefault(keys[-1], []).append(node)
            outer.update(keys[:-1])
    place = {node.name: position for position, node in enumerate(build.nodes)}
    for key, nodes in calls.items():
        path, _ = nodes[-1].meta["nn_module_stack"][key]
        number = key.partition("@")[2]
        source = f"{path}@{number}" if number else path
        if key in outer or source not in single:
            continue
        first, last = min(given[node][1] for node in nodes), max(given[node][2] for node in nodes)
        value = given[nodes[-1]][0]
        if isinstance(value, Wire) and value.index == 0 and first <= place.get(value.node, -1) < last:
            position = place[value.node]
            if not build.nodes[position].source:
                build.nodes[position] = replace(build.nodes[position], source=source)


__all__ = ["put_sources"]
