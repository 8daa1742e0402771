"""A port of a model: read where it can be, else run as it is; of named tensors alone, the layers that are there."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from parity.diagnosis.sides import has_both_sides
from parity.errors import ParityError, Problem, ShapeError, UnsupportedError
from parity.files import weights_alone
from parity.frameworks import owner
from parity.graph.inputs import input_of_chain, random_graph_inputs
from parity.graph.lengths import lengths_for
from parity.network import Network, Recurrent
from parity.network.attaching import network_of_graph
from parity.result import Inputs
from parity.running import random_inputs
from parity.sources import Opened, Source, layer_named, open_source

_BATCH, _TIMES = 3, (17, 67, 1031)
"""Of random inputs by which a module is traced: one with a loop over the steps is read for as many as random inputs have."""


def open_port(
    source: Source, reference: Opened, inputs: Inputs | None, as_they_are: Collection[str] = ("torch",)
) -> Opened:
    """A source to be compared with the first one; a live torch module that cannot be read is taken as it is, to be run by position.

    Args:
        source: anything that `parity.compare` takes.
        reference: the first one.
        inputs: example inputs, by which a torch module is traced.
        as_they_are: engines whose live objects are run where they cannot be read.

    Raises:
        ParityError: anything else that cannot be read.
    """
    engine = None if isinstance(source, (str, Path, Opened, Network)) else owner(source)
    if isinstance(source, (str, Path)):
        check_no_recording(Path(source), f"parity.diagnose(reference, {str(source)!r})")
    try:
        example = _by_position(reference, inputs) if engine == "torch" else inputs
        opened = _opened_by_shape(source, reference, example) if engine == "torch" else None
        opened = opened or open_source(source, partial=True, inputs=example)
    except (ParityError, NotImplementedError) as error:
        unknown = (
            isinstance(error, UnsupportedError) or engine == "keras"
        )  # whose own classes may not say what they are made of
        if not unknown or engine not in as_they_are or reference.network.stopping:
            raise
        problems = error.problems if isinstance(error, ParityError) else (Problem(str(error).strip().splitlines()[0]),)
        nodes = tuple(replace(node, source="") for node in reference.graph.nodes)
        graph = replace(reference.graph, nodes=nodes, details={"unread": problems[0].what})
        name = type(source).__name__
        return Opened(f"{name} (run as it is)", network_of_graph(graph, problems), engine, live=source)
    _check_features(reference, opened)
    return opened


def _opened_by_shape(source: Source, reference: Opened, example: Inputs | None) -> Opened | None:
    """A torch module opened with inputs as a chain of layers takes them, where they cannot be derived of its own; None for any other."""
    if example is not None or reference.network.graph is not None or reference.network.stopping:
        return None
    try:
        return open_source(source, partial=True)
    except UnsupportedError:
        return None
    except ParityError:
        return open_source(source, partial=True, inputs=random_inputs(reference.network, _BATCH, _TIMES[0], 0))


def check_no_recording(path: Path, remedy: str) -> None:
    """Refuse a file of inputs and outputs, and one of a single array, in the place of a model.

    Args:
        path: of anything.
        remedy: what is to be done with a recording.

    Raises:
        ParityError: it is one of both.
    """
    if has_both_sides(path):
        got = "inputs and outputs"
        raise ParityError("this is a recording of inputs and outputs", str(path), "a model", got, remedy)
    if path.suffix.lower() == ".npy" and path.is_file():
        remedy = f"np.savez({str(path.with_suffix('.npz'))!r}, inputs=x, outputs=y), where y was computed of x"
        raise ParityError("outputs alone cannot be explained", str(path), "inputs and outputs", "one array", remedy)


def _check_features(reference: Opened, port: Opened) -> None:
    """Refuse an ONNX model, which runs on no other sizes than its own, that takes another number of features."""
    if port.engine != "onnxruntime" or reference.network.stopping or port.network.stopping:
        return
    sides = _taken_shapes(reference), _taken_shapes(port)
    if len(sides[0]) != len(sides[1]):
        return
    for right, (name, own) in zip(sides[0].values(), sides[1].items(), strict=True):
        fixed = all(isinstance(size, int) for shape in (right, own) for size in shape[-1:])
        if len(right) == len(own) and fixed and right[-1:] != own[-1:]:
            what, remedy = "another number of features", "give the model that is meant to be the same"
            got, expected = f"takes {own[-1]} features", f"{right[-1]}, as the reference"
            raise ShapeError(what, f"input '{name}' of {port.label}", expected, got, remedy)


def _taken_shapes(source: Opened) -> dict[str, tuple[int | str, ...]]:
    """The shapes of what a model takes, by name."""
    graph = source.network.graph
    taken = (input_of_chain(source.network),) if graph is None else graph.inputs
    return {one.name: one.shape for one in taken}


def _by_position(reference: Opened, inputs: Inputs | None) -> Inputs | None:
    """Inputs of a whole model in its order: a port may call them otherwise. Random ones where none are given."""
    graph = reference.network.graph
    if graph is None or reference.network.stopping:
        return inputs
    if inputs is None:
        try:
            inputs = random_graph_inputs(graph, lengths_for(graph, _BATCH, _TIMES), 0, padded_at_end=True)
        except ShapeError:
            return None
    if isinstance(inputs, Mapping) and inputs.keys() == {one.name for one in graph.inputs}:
        return tuple(inputs[one.name] for one in graph.inputs)
    return inputs


def layers_of_weights(reference: Opened, port: Opened) -> tuple[tuple[tuple[Opened, Opened], ...], str]:
    """The recurrent layers of a port of which there are named tensors alone, each beside the right model's that it is meant to be.

    Args:
        reference: the right model.
        port: what was opened of the port; of a state dict of several modules, which does not say how they are connected.

    Returns:
        The pairs, and which they are in words. No pairs where the port says how it is connected.

    Raises:
        UnsupportedError: which layer belongs to which cannot be told; the remedy is the command that names one of each.
    """
    ours, theirs = list(reference.network.recurrent), list(port.network.recurrent)
    if not _is_unconnected(port) or not ours or not theirs or _is_unconnected(reference):
        return (), ""
    chosen = _belonging(ours, theirs)
    if not chosen:
        raise _not_told(reference, port, "diagnose")
    pairs = tuple((layer_named(reference, one.name), layer_named(port, other.name)) for one, other in chosen)
    words = ", ".join(
        f"layer '{one.name}' of {reference.label} with '{other.name}' of {port.label}" for one, other in chosen
    )
    return pairs, f"compared: {words}"


def check_connected(reference: Opened, *ports: Opened) -> None:
    """Refuse ports of which there are named tensors alone: what is compared is named layer by layer.

    Args:
        reference: the first one.
        ports: the others.

    Raises:
        UnsupportedError: such a port; the remedy is the command that names a layer of each.
    """
    for port in ports:
        if _is_unconnected(port) and reference.network.recurrent and port.network.recurrent:
            raise _not_told(reference, port, "compare")


def _is_unconnected(source: Opened) -> bool:
    """Whether there are weights of several modules, and nothing that says how they are connected."""
    network, path = source.network, source.path
    named = network.origin == "torch" or (path is not None and (path.suffix == ".npz" or weights_alone(path)))
    return network.graph is None and bool(network.problems) and named


def _belonging(ours: Sequence[Recurrent], theirs: Sequence[Recurrent]) -> list[tuple[Recurrent, Recurrent]]:
    """Which of the port's layers is which of the right model's: one beside one, the only one of its sizes, or all of them in order."""
    if len(ours) == 1:
        found = theirs if len(theirs) == 1 else [one for one in theirs if one.spec == ours[0].spec]
        return [(ours[0], found[0])] if len(found) == 1 else []
    alike = [one.spec for one in ours] == [one.spec for one in theirs]
    return list(zip(ours, theirs, strict=True)) if alike else []


def _not_told(reference: Opened, port: Opened, command: str) -> UnsupportedError:
    """That a layer of each has to be named, with the command that does so for the first ones of one kind and size."""
    ours, theirs = reference.network.recurrent, port.network.recurrent
    first = next(((one, two) for one in ours for two in theirs if one.spec == two.spec), (ours[0], theirs[0]))
    files = [str(one.path or one.label) for one in (reference, port)]
    words = [*files, *(word for one in first for word in ("--layer", one.name))]
    return UnsupportedError(
        "weights alone do not say how the layers are connected",
        str(port.path or port.label),
        f"one layer of each, the reference's first: of {reference.label} {_some([one.name for one in ours])}",
        f"the recurrent layers {_some([one.name for one in theirs])}",
        shlex.join(["parity", command, *words]),
    )


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


__all__ = ["check_connected", "check_no_recording", "layers_of_weights", "open_port"]
