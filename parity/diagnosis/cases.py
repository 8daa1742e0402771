"""The cases that a suspect is asked about: inputs as users give them, random ones, and shorter ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from parity.diagnosis.case import Case, chain_case, with_sequence
from parity.diagnosis.time_first import notes_of_axes
from parity.errors import ParityError, Problem, ShapeError
from parity.files.npz_file import read_inputs
from parity.frameworks import Settings
from parity.graph.chains import graph_of_chain
from parity.graph.inputs import check_graph_inputs, masked_inputs, random_graph_inputs
from parity.graph.lengths import lengths_for
from parity.graph.matching import weighted_nodes
from parity.network import Network, Recurrent
from parity.recurrent import RecurrentSpec
from parity.result import Inputs, State, check_states
from parity.running import check_inputs, check_mask, mask_values, random_inputs
from parity.sources import Opened, layer_named

BATCH, TIME = 4, 17
"""Samples and steps of random inputs."""

SHORT = (1, 7)
"""Steps of the runs that come before: what is far away on few steps need not be run on many."""


def of_one_form(first: Opened, other: Opened) -> tuple[Opened, Opened]:
    """Two sources to be laid beside each other: of a model with more layers beside a layer by itself, its only recurrent layer.

    A model around that one layer alone stays whole: its own code is part of what it computes.

    Args:
        first: the right model.
        other: the suspect.
    """
    sides = (first, other)
    bare = [one.network.graph is None and one.network.bare for one in sides]
    single = all(len(one.network.recurrent) == 1 and _is_read(one) for one in sides)
    if (
        not single
        or bare[0] == bare[1]
        or any(not alone and _is_around(one) for one, alone in zip(sides, bare, strict=True))
    ):
        return sides
    first, other = (
        one if alone else layer_named(one, one.network.recurrent[0].name)
        for one, alone in zip(sides, bare, strict=True)
    )
    return first, other


def notes_of_form(
    before: Sequence[Opened], after: Sequence[Opened], case: Case | None = None, settings: Settings | None = None
) -> Iterator[str]:
    """What is to be said where a layer of a model was taken in place of the model, and where one side takes the steps first.

    Args:
        before, after: the right model and the suspect, as they were given, and as `of_one_form` gives them.
        case: the right model on the inputs that are asked about; None for random ones.
        settings: where the suspect runs.
    """
    for one, taken in zip(before, after, strict=True):
        if one is not taken:
            yield (
                f"{one.label} has more than the layer that it is laid beside: '{taken.network.recurrent[0].name}' was compared by itself, "
                "and the layers and the code around it were not looked at"
            )
    network = after[0].network
    if case is not None or (network.graph is None and network.bare):
        x = random_inputs(network, BATCH, TIME, 0) if case is None else case.inputs[case.graph.inputs[0].name]
        yield from notes_of_axes(after, x, settings or Settings())


def _is_read(source: Opened) -> bool:
    """Whether a source is a chain, or a model whose layers are known."""
    return source.network.graph is None or "unread" not in source.network.graph.details


def _is_around(source: Opened) -> bool:
    """Whether a model is a graph around one recurrent layer without any other weights."""
    graph = source.network.graph
    weighted = () if graph is None else {node.operation.name for node in weighted_nodes(graph)}
    return graph is not None and len(weighted) == 1 and len(graph.inputs) == 1


def is_chain(first: Opened, other: Opened) -> bool:
    """Whether both are chains of layers of one form; else they are compared as graphs.

    Args:
        first: the right model.
        other: the suspect.

    Raises:
        ShapeError: layers by themselves beside a model; layers of other kinds or sizes, which no mistake makes of each other.
    """
    if first.network.graph is not None or other.network.graph is not None:
        return False
    for source in (first, other):
        source.network.whole()
    if first.network.bare != other.network.bare:
        raise ShapeError(
            "layers by themselves are not compared with a model",
            f"{first.label} and {other.label}",
            "two models, or two layers",
            "one of each",
            "take one layer of the model: --layer NAME, or parity.read(model).recurrent[k]",
        )
    problems = list(_unlike(first, other))
    if problems:
        raise ShapeError(problems)
    return True


def _unlike(first: Opened, other: Opened) -> Iterator[Problem]:
    """What no mistake explains: another number of layers, and layer by layer other kinds and sizes."""
    mine, theirs = list(first.network.recurrent), list(other.network.recurrent)
    remedy = "give the model that is meant to be the same, or name the layers that belong together: --layer NAME --layer NAME"
    if len(mine) != len(theirs):
        what = "another number of recurrent layers"
        expected, got = (", ".join(f"'{one.name}' {_sizes(one.spec)}" for one in side) for side in (mine, theirs))
        yield Problem(what, other.label, f"{len(mine)}: {expected}", f"{len(theirs)}: {got}", remedy)
        return
    for right, own in zip(mine, theirs, strict=True):
        differing = [
            words
            for words, one, two in (
                ("kind", right.spec.kind, own.spec.kind),
                ("number of features", right.spec.input_size, own.spec.input_size),
                ("number of units", right.spec.hidden_size, own.spec.hidden_size),
                ("projection", right.spec.projection_size, own.spec.projection_size),
                ("number of directions", len(right.spec.directions), len(own.spec.directions)),
            )
            if one != two
        ]
        if differing:
            what = f"recurrent layers of another {' and '.join(differing)}"
            where = f"layer '{own.name}' of {other.label}"
            yield Problem(
                what, where, f"{_sizes(right.spec)}, as layer '{right.name}' of {first.label}", _sizes(own.spec), remedy
            )


def _sizes(spec: RecurrentSpec) -> str:
    return f"{spec.kind} {spec.input_size}->{spec.hidden_size} {' and '.join(spec.directions)}"


def asked_case(
    first: Opened,
    inputs: Inputs | str | Path | None,
    initial_state: object,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    sizes: tuple[int, int, int | None],
    chains: bool = True,
) -> Case:
    """The right model on the inputs that are asked about.

    Args:
        first: the right model.
        inputs, initial_state, lengths, mask: as for `parity.diagnose`.
        sizes: samples, steps and seed of random inputs; without a seed initial states that are not given are zeros.
        chains: whether both sides are chains of layers.

    Raises:
        ShapeError: inputs that do not fit.
        ParityError: states, lengths or a mask beside a model that is no chain.
    """
    return next(asked_cases(first, inputs, initial_state, lengths, mask, sizes, chains))


def asked_cases(
    first: Opened,
    inputs: Inputs | str | Path | None,
    initial_state: object,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    sizes: tuple[int, int, int | None],
    chains: bool = True,
) -> Iterator[Case]:
    """The same, of a layer by itself in both its forms: with every step as its output, and with the last one alone.

    Args:
        first, inputs, initial_state, lengths, mask, sizes, chains: as for `asked_case`. Of a chain of layers the first form has every
            step; of one that is compared as a graph it is what the layer itself gives.

    Raises:
        ShapeError, ParityError: as `asked_case`.
    """
    batch, time, seed = sizes
    given = read_inputs(Path(inputs)) if isinstance(inputs, (str, Path)) else inputs
    if first.network.graph is not None or not chains:
        if any(one is not None for one in (initial_state, lengths, mask)):
            raise ParityError(
                "these are for chains of recurrent layers", "initial_state, lengths, mask", "inputs alone"
            )
        graph = first.graph
        if given is None:
            made = random_graph_inputs(graph, lengths_for(graph, batch, (time,)), seed or 0, padded_at_end=True)
        else:
            made = check_graph_inputs(graph, given)
        yield Case(graph, made)
        if first.network.graph is None and (other := _in_other_form(first.network)) is not None:
            yield Case(graph_of_chain(other), made)
        return
    network = first.network.whole()
    x = (
        random_inputs(network, batch, time, seed or 0, mask_values(network))
        if given is None
        else check_inputs(network, given)
    )
    states = _states(network, initial_state, len(x), seed)
    valid = check_mask(lengths, mask, x.shape[0], x.shape[1])
    yield chain_case(network, x, states, valid)
    if network.bare and (other := _in_other_form(with_sequence(network))) is not None:
        yield chain_case(other, x, states, valid, sequence=False)


def gives_last_step(source: Opened) -> bool:
    """Whether a source is a layer by itself that says that it gives the state after the last step alone."""
    network = source.network
    last = network.layers[-1] if network.graph is None and network.bare else None
    return isinstance(last, Recurrent) and not last.return_sequences


def _in_other_form(network: Network) -> Network | None:
    """A layer by itself that gives the last step where it gives every step, or the other way round."""
    last = network.layers[-1]
    if not network.bare or not isinstance(last, Recurrent) or last.merge_mode is None:
        return None
    return replace(network, layers=(*network.layers[:-1], replace(last, return_sequences=not last.return_sequences)))


def with_other_padding(case: Case, seed: int) -> Case | None:
    """The same model on random inputs with padding at the start and in the middle, too; None where it makes no mask.

    Args:
        case: on random inputs, padded at the end alone.
        seed: of the numbers.
    """
    if not masked_inputs(case.graph):
        return None
    shapes = {one.name: one.shape for one in case.graph.inputs}
    pairs = [pair for name, array in case.inputs.items() for pair in zip(shapes[name], array.shape, strict=True)]
    lengths = {word: length for word, length in pairs if isinstance(word, str)}
    return Case(case.graph, random_graph_inputs(case.graph, lengths, seed))


def _states(network: Network, given: object, batch: int, seed: int | None) -> dict[str, State]:
    """The initial states that are given; of layers by themselves random ones by default, zeros without a seed: a recording began so."""
    if given is not None or not network.bare or seed is None:
        return check_states(network.specs, given, batch)
    random = np.random.default_rng(seed + 1)
    return {
        name: State(
            *(random.uniform(-0.9, 0.9, spec.state_shape(state, batch)).astype(np.float32) for state in spec.states)
        )
        for name, spec in network.specs.items()
    }


def shorter(case: Case) -> Iterator[Case]:
    """The first steps of a case, where the model takes so few.

    Args:
        case: on the inputs that are asked about.
    """
    for steps in SHORT:
        cut = case.beginning(steps)
        if all(cut.inputs[name] is array for name, array in case.inputs.items()):
            continue
        try:
            cut.outputs()
        except ParityError:
            continue
        yield cut


__all__ = [
    "BATCH",
    "SHORT",
    "TIME",
    "asked_case",
    "asked_cases",
    "gives_last_step",
    "is_chain",
    "notes_of_form",
    "of_one_form",
    "shorter",
    "with_other_padding",
]
