"""Runs of a whole model in several engines against the reference and its floor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Protocol

import numpy as np

from parity.failed import noted
from parity.floor import Band, Floor
from parity.graph.floors import GIVEN, REPLICAS, layer_graph, measure
from parity.graph.graph import Graph, Node, Wire
from parity.graph.lengths import axes_of
from parity.graph.operations import Activation, Constant, Softmax, Stub
from parity.graph.padding import with_padding
from parity.graph.steps import sequences_of, steps_of
from parity.judge import REFERENCE, Judgement, Row, row_of
from parity.recurrent import Array
from parity.result import Result, Returned


class GraphRunner(Protocol):
    """Runs a live model of one engine."""

    @property
    def engine(self) -> str:
        """Its name."""

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run on inputs by the graph's names; the result's outputs have the graph's names."""

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """Values inside the model that the engine can show, from one run."""


@dataclass(frozen=True, eq=False)
class Running:
    """A `GraphRunner` put together from two functions.

    Args:
        engine: its name.
        run: gives the outputs by the graph's names.
        inside: gives the values inside the model that the engine can show.
        facts: versions, device, dtype.
    """

    engine: str
    run: Callable[[Mapping[str, Array]], dict[str, Array]]
    inside: Callable[[Mapping[str, Array]], dict[Wire, Array]]
    facts: Mapping[str, str]

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run."""
        outputs = self.run(inputs)
        returned = tuple(Returned(name, array.shape, str(array.dtype)) for name, array in outputs.items())
        return Result(self.engine, outputs, {}, returned, dict(self.facts))

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """The values inside."""
        return self.inside(inputs)


class ReferenceRunner:
    """Runs a graph in float64."""

    engine = REFERENCE

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run."""
        settings = {"numpy": np.__version__, "device": "cpu", "dtype": "float64"}
        return Result(REFERENCE, self._graph.run(inputs), {}, settings=settings)

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """Every value."""
        return self._graph.values(inputs)


def judge_graph(
    graph: Graph,
    runners: Mapping[str, GraphRunner],
    inputs: Mapping[str, Array],
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    layers: bool = False,
) -> Judgement:
    """Run everything on the same inputs and judge it: the outputs of the run, and on request every layer by itself.

    An engine that fails does not keep the others from being judged; see `parity.judge.judge`.

    Args:
        graph: what the reference computes.
        runners: what is judged, by label.
        inputs: by name.
        seed: of the rounding signs.
        progress: called with a line for every step of the work.
        layers: whether every layer is judged, too, each on the very inputs that it got, so that a fault does not smear over what follows.
    """
    wires = {f"output {name}": wire for name, wire in graph.outputs.items()}
    floor = measure(graph, inputs, wires, REPLICAS, seed)
    floor = replace(floor, bands=with_padding(graph, inputs, wires, floor.bands))
    results: dict[str, Result] = {}
    failures: dict[str, str] = {}
    judged: dict[str, list[Layer]] = {}
    for label, runner in runners.items():
        if progress:
            progress(f"{label}: run")
        with noted(failures, label, runner.engine):
            results[label] = runner(inputs)
            if layers:
                judged[label] = list(layers_of(graph, label, runner.seen(inputs), inputs, seed, not _has_steps(floor)))
    judgement = Judgement(tuple(_output_rows(graph, floor, results)), floor, None, results, failures=failures)
    return _with_judged(judgement, judged)


def with_layers(
    judgement: Judgement,
    graph: Graph,
    runners: Mapping[str, GraphRunner],
    inputs: Mapping[str, Array],
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[Judgement, dict[str, str]]:
    """A judgement with the layers of those engines that disagree with the reference, each on the very inputs that it got.

    Args:
        judgement: of the outputs; no layer was judged yet.
        graph, runners, inputs, seed, progress: as `judge_graph` had them.

    Returns:
        The judgement with more rows; and what went wrong in an engine that ran but does not show its layers, by label.
    """
    wrong = {row.left for row in judgement.rows if row.verdict == "disagree" and row.right == REFERENCE}
    judged: dict[str, list[Layer]] = {}
    failures: dict[str, str] = {}
    for label in (label for label in runners if label in wrong):
        if progress:
            progress(f"{label}: layer by layer")
        with noted(failures, label, runners[label].engine):
            seen, keep = runners[label].seen(inputs), not _has_steps(judgement.floor)
            judged[label] = list(layers_of(graph, label, seen, inputs, seed, keep))
    return _with_judged(judgement, judged), failures


def _with_judged(judgement: Judgement, judged: Mapping[str, Sequence[Layer]]) -> Judgement:
    """A judgement with what was found of layers, in their order."""
    layers = sorted((layer for found in judged.values() for layer in found), key=lambda layer: layer.place)
    rows = (*judgement.rows, *(layer.row for layer in layers))
    kept = {label: tuple(layer.values for layer in found if layer.values) for label, found in judged.items()}
    return replace(judgement, rows=rows, sequences={label: values for label, values in kept.items() if values})


def _has_steps(floor: Floor) -> bool:
    """Whether any output shows steps of time."""
    return any("time" in band.quantity.axes for band in floor.bands.values())


def _output_rows(graph: Graph, floor: Floor, results: Mapping[str, Result]) -> Iterator[Row]:
    for name in graph.outputs:
        band = floor.bands[f"output {name}"]
        shown = {label: result.outputs[name] for label, result in results.items() if name in result.outputs}
        if band.padded is not None and band.padded.all():
            continue
        for label, array in shown.items():
            yield row_of("run", band, (label, array), (REFERENCE, band.reference))
        for left, right in combinations(shown.items(), 2):
            yield row_of("run", band, left, right)


@dataclass(frozen=True, eq=False)
class Layer:
    """One value inside a model, judged by itself.

    Args:
        place: the number of its node.
        row: the verdict.
        values: where they are kept: the reference on the inputs that the layer got with its floor, and what the engine gave.
    """

    place: int
    row: Row
    values: tuple[Band, Array] | None


def layer_rows_of(
    graph: Graph, label: str, seen: Mapping[Wire, Array], inputs: Mapping[str, Array], seed: int = 0
) -> list[tuple[int, Row]]:
    """The rows of `layers_of`, each with the number of its node.

    Args:
        graph, label, seen, inputs, seed: as for `layers_of`.
    """
    return [(layer.place, layer.row) for layer in layers_of(graph, label, seen, inputs, seed)]


def layers_of(
    graph: Graph,
    label: str,
    seen: Mapping[Wire, Array],
    inputs: Mapping[str, Array],
    seed: int = 0,
    sequences: bool = False,
) -> Iterator[Layer]:
    """Every layer that an engine shows, judged against the reference on the very inputs that the layer got.

    Args:
        graph: what the reference computes.
        label: of the engine.
        seen: values inside the model, as the engine computed them.
        inputs: of the model.
        seed: of the rounding signs.
        sequences: whether to keep the values of what recurrent layers give of every step.

    Returns:
        The layers in their order; one whose inputs the engine does not show is judged together with those before it.
    """
    known = {Wire(one.name): np.asarray(inputs[one.name]) for one in graph.inputs} | dict(seen)
    axes, takers = axes_of(graph), graph.takers()
    steps = steps_of(graph, axes)
    for place, node in enumerate(graph.nodes):
        for wire in (wire for wire in seen if wire.node == node.name):
            if isinstance(node.operation, (Stub, Constant)) or (axes and wire not in axes):
                continue
            part = layer_graph(graph, wire, {key: value for key, value in known.items() if key.node != node.name})
            name = _title(part, node, wire, takers)
            given = {f"{GIVEN}{taken}": value for taken, value in known.items()}
            bands = measure(part, given, {name: wire}, REPLICAS // 2, seed, axes, steps=steps).bands
            band = with_padding(part, given, {name: wire}, bands)[name]
            row = row_of("layer", band, (label, seen[wire]), (REFERENCE, band.reference))
            yield Layer(place, row, (band, seen[wire]) if sequences and wire in sequences_of(node) else None)


def _title(part: Graph, node: Node, wire: Wire, takers: Mapping[Wire, list[Node]]) -> str:
    """The layer; where the engine does not show the values of those before it, all that were judged together."""
    others = (one for one in part.nodes if one.name != node.name and not isinstance(one.operation, Constant))
    before = dict.fromkeys(one.source for one in others if one.operation.arrays.held and one.source)
    own = node.source or _owner(node, takers)
    name = " and ".join([*(one for one in before if one != own), own])
    return f"layer {name}" if wire.index == 0 else f"layer {name}, value {wire.index}"


def _owner(node: Node, takers: Mapping[Wire, list[Node]]) -> str:
    """Whose value a node in between gives: that of the layer whose activation follows it."""
    behind = takers.get(Wire(node.name), [])
    if len(behind) == 1 and behind[0].source and isinstance(behind[0].operation, (Activation, Softmax)):
        return f"{behind[0].source}, before its activation"
    return node.name


def named(result: Result, names: Mapping[str, str]) -> Result:
    """A result with its outputs under other names.

    Args:
        result: of an engine.
        names: from its own names to others, in order; what is not in it is left out.
    """
    return replace(result, outputs={other: result.outputs[own] for own, other in names.items()})


__all__ = [
    "GraphRunner",
    "Layer",
    "ReferenceRunner",
    "Running",
    "judge_graph",
    "layer_rows_of",
    "layers_of",
    "named",
    "with_layers",
]
