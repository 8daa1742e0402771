"""Whole models in several engines, on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from parity.errors import MissingFrameworkError, ShapeError, UnsupportedError, to_install
from parity.failed import loaded_or_failed
from parity.files.npz_file import read_inputs
from parity.frameworks import ENGINES, Settings
from parity.graph.graph import Graph, Wire
from parity.graph.inputs import check_graph_inputs, masked_inputs, random_graph_inputs
from parity.graph.judging import GraphRunner, judge_graph, named, with_layers
from parity.graph.lengths import lengths_for
from parity.graph.matching import matched_layers, values_as, weighted_nodes
from parity.graph.running import graph_runner
from parity.judge import REFERENCE, Judgement
from parity.recurrent import Array
from parity.result import Inputs, Result
from parity.sources import Opened
from parity.spelling import named_apart

Progress = Callable[[str], None]

BATCH, TIMES = 3, (17, 24, 48, 96, 240, 480, 960, 2400, 9600)
"""Samples and steps of random inputs: the first number of steps that the model takes."""


@dataclass(frozen=True, eq=False)
class Compared:
    """What `compare_graphs` gives.

    Args:
        participants: label -> (source, engine), in order.
        inputs: what every engine got, by the first graph's names.
        judgement: the rows and what they rest on.
        origin: where the inputs come from: "random", "given", or a path.
        notes: engines that were left out, and what these inputs cannot show.
    """

    participants: dict[str, tuple[Opened, str]]
    inputs: dict[str, Array]
    judgement: Judgement
    origin: str
    notes: tuple[str, ...]


def compare_graphs(
    opened: Sequence[Opened],
    inputs: Inputs | str | Path | None = None,
    engines: Sequence[str] | None = None,
    batch: int | None = None,
    time: int | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    progress: Progress | None = None,
    layers: bool | None = False,
) -> Compared:
    """Run whole models on the same inputs and judge their outputs; see `parity.compare`.

    Raises:
        ShapeError: inputs that do not fit, or models that cannot be compared at all.
        UnsupportedError: a model cannot be converted exactly to an engine that was asked for, or it has stubs.
        MissingFrameworkError: an engine that was asked for, or a source's own, is not installed.
    """
    say = progress or (lambda _: None)
    settings = settings or Settings()
    graphs = [source.graph for source in opened]
    first = graphs[0]
    _check_alike(opened, graphs)
    origin, given = _given(first, inputs, batch or BATCH, TIMES if time is None else (time,), seed)
    participants: dict[str, tuple[Opened, str]] = {}
    runners: dict[str, GraphRunner] = {}
    notes: list[str] = []
    for source, graph, engine in _wanted(opened, graphs, engines):
        say(f"{engine}: load {source.label}")
        try:
            made = loaded_or_failed(engine, partial(graph_runner, source, engine, settings))
        except (MissingFrameworkError, UnsupportedError) as error:
            if engines or engine == source.engine:
                raise
            notes.append(f"{engine} left out: {error.problems[0].what}")
            continue
        label = named_apart(engine if len(opened) == 1 else f"{source.label} ({engine})", participants)
        participants[label] = (source, engine)
        runners[label] = made if graph is first else _Renamed(made, first, graph)
    if not runners:
        raise MissingFrameworkError("no engine to compare with", got="; ".join(notes), remedy=to_install("all"))
    say("reference and floor")
    judgement = judge_graph(first, runners, given, seed, say, bool(layers))
    if layers is None and judgement.rows_verdict == "disagree":
        judgement, hidden = with_layers(judgement, first, runners, given, seed, say)
        notes += [f"{label}: its layers could not be judged: {text}" for label, text in hidden.items()]
    if any(row.rule == "layer" for row in judgement.rows):
        notes += _unmatched(opened, graphs)
    if origin == "random" and masked_inputs(first):
        notes.append(_HOLES)
    return Compared(participants, given, judgement, origin, (*notes, *_told_by(judgement), *_blind(given)))


def _check_alike(opened: Sequence[Opened], graphs: Sequence[Graph]) -> None:
    first = graphs[0]
    for source, graph in zip(opened[1:], graphs[1:], strict=True):
        pair = f"{opened[0].label} and {source.label}"
        if len(graph.inputs) != len(first.inputs) or len(graph.outputs) != len(first.outputs):
            expected, got = (f"{len(g.inputs)} inputs, {len(g.outputs)} outputs" for g in (first, graph))
            raise ShapeError("the models differ in their inputs or outputs", pair, expected, got)


def _given(
    graph: Graph, inputs: Inputs | str | Path | None, batch: int, times: Sequence[int], seed: int
) -> tuple[str, dict[str, Array]]:
    if inputs is None:
        return "random", random_graph_inputs(graph, lengths_for(graph, batch, times), seed)
    if isinstance(inputs, (str, Path)):
        return str(inputs), check_graph_inputs(graph, read_inputs(Path(inputs)))
    return "given", check_graph_inputs(graph, inputs)


def _wanted(
    opened: Sequence[Opened], graphs: Sequence[Graph], engines: Sequence[str] | None
) -> Iterator[tuple[Opened, Graph, str]]:
    for source, graph in zip(opened, graphs, strict=True):
        own = [source.engine or REFERENCE] if len(opened) > 1 else list(ENGINES)
        for engine in engines or own:
            yield source, graph, engine


_HOLES = (
    "the random inputs have padding at the end, at the start and in the middle; a port that takes only padding at the end differs there: "
    "give it inputs of your own"
)


class _Renamed:
    """Runs another model under the first one's names of inputs and outputs, matched by position."""

    def __init__(self, inner: GraphRunner, first: Graph, own: Graph) -> None:
        self.engine, self._inner, self._first, self._own = inner.engine, inner, first, own
        self._inputs = {f.name: o.name for f, o in zip(first.inputs, own.inputs, strict=True)}
        self._outputs = dict(zip(own.outputs, first.outputs, strict=True))

    def __call__(self, inputs: Mapping[str, Array]) -> Result:
        """Run, and rename what comes out."""
        return named(self._inner(self._under_own_names(inputs)), self._outputs)

    def seen(self, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        """The values of those of its layers that are matched to the first model's, in that one's axes."""
        given = self._under_own_names(inputs)
        seen = dict(self._inner.seen(given))
        wanted = set(matched_layers(self._first, self._own).values())
        hidden = {name: wire for name, wire in self._own.outputs.items() if wire in wanted and wire not in seen}
        if seen and hidden:  # a function behind the last layer, which is no module that an engine could show
            outputs = self._inner(given).outputs
            seen |= {wire: outputs[name] for name, wire in hidden.items() if name in outputs}
        return values_as(self._first, self._own, seen, self._first.values(inputs))

    def _under_own_names(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {self._inputs[name]: array for name, array in inputs.items()}


def _unmatched(opened: Sequence[Opened], graphs: Sequence[Graph]) -> Iterator[str]:
    """Layers of the first model that no layer of another could be told to be."""
    first = graphs[0]
    for source, graph in zip(opened[1:], graphs[1:], strict=True):
        if graph.details.get("unread") is None:
            found = {wire.node for wire in matched_layers(first, graph)}
            alone = [node.source or node.name for node in weighted_nodes(first) if node.name not in found]
            if alone:
                yield f"{source.label}: no layer of it could be told to be {', '.join(alone)}, so these were not judged by themselves"


def _told_by(judgement: Judgement) -> Iterator[str]:
    """What a reader should know of the runs."""
    for label, text in judgement.failures.items():
        yield f"{label} failed: {text}"
    for name, band in judgement.floor.bands.items():
        if not band.reference.any():
            yield f"{name} is zero everywhere: what is wrong behind it cannot show"


def _blind(inputs: Mapping[str, Array]) -> Iterator[str]:
    """What a wrong mapping could hide behind on these inputs."""
    for name, array in inputs.items():
        if array.dtype.kind == "f" and not array.any():
            yield f"input '{name}' is zero everywhere: the weights behind it cannot show"
    if all(len(array) == 1 for array in inputs.values() if array.ndim):
        yield "a batch of one: mixed-up samples cannot show"


__all__ = ["BATCH", "TIMES", "Compared", "compare_graphs"]
