"""Runs whole models: a live module as its graph was read from it, or one that parity wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from parity.frameworks import Settings
from parity.frameworks.torch.modes import check_device
from parity.frameworks.torch.running import ENGINE
from parity.frameworks.torch.whole.calling import call, intermediate
from parity.frameworks.written import attributes_of, is_written
from parity.graph.calls import Layered
from parity.graph.graph import Graph, Node, Wire
from parity.graph.judging import Running
from parity.graph.matching import in_axes_of
from parity.network import Dense, Recurrent
from parity.network.activations import ACTIVATIONS
from parity.recurrent import Array


def runner(module: nn.Module, graph: Graph, settings: Settings) -> Running:
    """Something that runs a module on inputs by the graph's names.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    check_device(settings)
    options: dict[str, Any] = {"device": settings.device, "dtype": settings.dtype, "tf32": settings.tf32}
    facts = {
        "torch": str(torch.__version__),
        "module": type(module).__name__,
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": str(torch.get_num_threads()),
    }
    return Running(
        ENGINE,
        lambda inputs: call(module, _positional(graph) if is_written(module) else graph, inputs, **options),
        lambda inputs: _inside(module, graph, inputs, options),
        facts,
    )


def _positional(graph: Graph) -> Graph:
    """The graph of a module that takes its inputs in order: what parity writes, whatever the source took."""
    return replace(graph, details={key: value for key, value in graph.details.items() if key != "call"})


def _inside(
    module: nn.Module, graph: Graph, inputs: Mapping[str, Array], options: Mapping[str, Any]
) -> dict[Wire, Array]:
    """Values inside a module by the graph's wires."""
    if is_written(module):
        return _inside_written(module, graph, inputs, options)
    found = intermediate(module, graph, inputs, **options)
    first: dict[str, str] = {}
    for node in graph.nodes:
        if node.source:
            first[node.source] = node.name
    return {Wire(first[name]): array for name, array in found.items() if name in first}


def _inside_written(
    module: nn.Module, graph: Graph, inputs: Mapping[str, Array], options: Mapping[str, Any]
) -> dict[Wire, Array]:
    """What the layers of a module that parity wrote give: those that are modules of torch's own with just that value."""
    attributes = attributes_of(module)
    calls: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.operation.name in attributes:
            calls.setdefault(attributes[node.operation.name], []).append(node)
    exact = graph.values(inputs)
    found: dict[Wire, Array] = {}

    def keep(name: str, returned: Any) -> None:
        node = calls[name].pop(0)
        value = _value_of(node.operation, returned)
        wire = Wire(node.name)
        array = None if value is None else in_axes_of(value.detach().cpu().numpy().copy(), exact[wire])
        if array is not None:
            found[wire] = array

    hooks = [
        child.register_forward_hook(lambda _, __, returned, name=name: keep(name, returned))
        for name, child in module.named_children()
        if name in calls
    ]
    try:
        call(module, _positional(graph), inputs, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _value_of(operation: Layered, returned: Any) -> Tensor | None:
    """The layer's value, out of what its module returns; None where more is done to it."""
    if isinstance(operation, Recurrent):
        plain = operation.return_sequences and not operation.merges and not operation.reverse
        sequence = returned[0] if isinstance(returned, tuple) else None
        return sequence if plain and isinstance(sequence, Tensor) else None
    if not isinstance(returned, Tensor):
        return None
    if isinstance(operation, Dense) and operation.activation != "linear":
        kind = getattr(nn, ACTIVATIONS[operation.activation].torch)
        activated: Tensor = (kind(dim=-1) if kind is nn.Softmax else kind())(returned)
        return activated
    return returned
