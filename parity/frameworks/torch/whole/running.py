"""Runs whole models: a live module as its graph was read from it, or one that parity wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from parity.errors import MissingFrameworkError
from parity.frameworks import Settings
from parity.frameworks.torch.running import ENGINE
from parity.frameworks.torch.whole.calling import call, intermediate
from parity.frameworks.written import is_written
from parity.graph.graph import Graph, Wire
from parity.graph.judging import Running
from parity.recurrent import Array


def runner(module: nn.Module, graph: Graph, settings: Settings) -> Running:
    """Something that runs a module on inputs by the graph's names.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingFrameworkError(
            "the engine 'torch' has no CUDA device",
            expected="an NVIDIA GPU, its driver, and a CUDA build of torch",
            got=f"torch {torch.__version__}, torch.cuda.is_available() is False",
            remedy="use device='cpu', or install the CUDA build from pytorch.org on a machine with a GPU",
        )
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
        return {}
    found = intermediate(module, graph, inputs, **options)
    first: dict[str, str] = {}
    for node in graph.nodes:
        if node.source:
            first[node.source] = node.name
    return {Wire(first[name]): array for name, array in found.items() if name in first}
