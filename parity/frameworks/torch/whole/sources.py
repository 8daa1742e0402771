"""Which node of a graph gives what which module gives: for comparisons layer by layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from parity.frameworks.torch.whole.calling import module_values
from parity.frameworks.torch.whole.tracing import Traced
from parity.frameworks.torch.whole.values import Value
from parity.graph import Builder, Wire


def first_paths(module: nn.Module) -> dict[str, str]:
    """For every path of a module inside, the first one: a module may stand in several places.

    Example:
        >>> shared = nn.Linear(2, 2)
        >>> first_paths(nn.Sequential(shared, nn.Tanh(), shared))["2"]
        '0'
    """
    first = {id(inner): path for path, inner in module.named_modules()}
    return {path: first[id(inner)] for path, inner in module.named_modules(remove_duplicate=False)}


def call_names(module: nn.Module, nodes: Iterable[Any]) -> dict[str, str]:
    """A name for every call of a module inside, by what the trace calls it: its first path, with "@1" at the second call.

    Args:
        module: the whole.
        nodes: of the trace, in order.
    """
    paths = first_paths(module)
    several = {path for path, count in Counter(paths.values()).items() if count > 1}
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for node in nodes:
        for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
            own = paths.get(path)
            if key in found or not own:
                continue
            # A trace counts the calls of every path by itself.
            number = str(counts[own] or "") if own in several else key.partition("@")[2]
            counts[own] += 1
            found[key] = f"{own}@{number}" if number else own
    return found


def put_sources(
    build: Builder,
    module: nn.Module,
    traced: Traced,
    given: Mapping[Any, tuple[Value, int, int]],
    names: Mapping[str, str],
) -> None:
    """Write the name of every innermost module to the node that gives its output.

    Only modules that return one tensor have such a node for sure; recurrent ones name theirs while they are read.

    Args:
        build: the graph in the making.
        module: the live one.
        traced: its trace.
        given: what every operator gave, with the nodes that the graph had before and after it.
        names: of `call_names`.
    """
    seen = module_values(module, traced.example)
    single = {name: value.ndim for name, value in seen.items() if isinstance(value, Tensor)}
    for position, node in enumerate(build.nodes):
        # A recurrent layer that is called without a batch has one here.
        if node.source and single.get(node.source) != build.rank(Wire(node.name)):
            build.nodes[position] = replace(node, source="")
    calls: dict[str, list[Any]] = {}
    outer: set[str] = set()
    for node in given:
        keys = list(node.meta.get("nn_module_stack") or {})
        if keys:
            calls.setdefault(keys[-1], []).append(node)
            outer.update(keys[:-1])
    place = {node.name: position for position, node in enumerate(build.nodes)}
    for key, nodes in calls.items():
        source = names.get(key, "")
        if key in outer or source not in single or f"{source}.h_n" in seen:
            continue
        first, last = min(given[node][1] for node in nodes), max(given[node][2] for node in nodes)
        value = given[nodes[-1]][0]
        if isinstance(value, Wire) and value.index == 0 and first <= place.get(value.node, -1) < last:
            position = place[value.node]
            if not build.nodes[position].source:
                build.nodes[position] = replace(build.nodes[position], source=source)


__all__ = ["call_names", "first_paths", "put_sources"]
