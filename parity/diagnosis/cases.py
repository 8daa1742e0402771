"""The cases that a suspect is asked about: inputs as users give them, random ones, and shorter ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from parity.diagnosis.case import Case, chain_case
from parity.errors import ParityError, ShapeError
from parity.files.npz_file import read_inputs
from parity.graph.inputs import check_graph_inputs, random_graph_inputs
from parity.graph.lengths import lengths_for
from parity.network import Masking, Network
from parity.recurrent import RecurrentSpec
from parity.result import Inputs, State, check_states
from parity.running import check_inputs, check_mask, random_inputs
from parity.sources import Opened, layer_named

BATCH, TIME = 4, 17
"""Samples and steps of random inputs."""

SHORT = (1, 7)
"""Steps of the runs that come before: what is far away on few steps need not be run on many."""


def of_one_form(first: Opened, other: Opened) -> tuple[Opened, Opened]:
    """Two sources to be laid beside each other: of a model beside a layer by itself, its only recurrent layer.

    Args:
        first: the right model.
        other: the suspect.
    """
    sides = (first, other)
    bare = [one.network.graph is None and one.network.bare for one in sides]
    single = all(len(one.network.recurrent) == 1 and _is_read(one) for one in sides)
    if not single or bare[0] == bare[1]:
        return sides
    first, other = (
        one if alone else layer_named(one, one.network.recurrent[0].name)
        for one, alone in zip(sides, bare, strict=True)
    )
    return first, other


def _is_read(source: Opened) -> bool:
    """Whether a source is a chain, or a model whose layers are known."""
    return source.network.graph is None or "unread" not in source.network.graph.details


def is_chain(first: Opened, other: Opened) -> bool:
    """Whether both are chains of layers of one form; else they are compared as graphs.

    Args:
        first: the right model.
        other: the suspect.

    Raises:
        ShapeError: layers by themselves of other sizes, or beside a model.
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
    mine, theirs = ([_sizes(spec) for spec in one.network.specs.values()] for one in (first, other))
    if mine != theirs:
        pair = f"{first.label} and {other.label}"
        raise ShapeError("the recurrent layers differ in kind, size or direction", pair, str(mine), str(theirs))
    return True


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
    batch, time, seed = sizes
    given = read_inputs(Path(inputs)) if isinstance(inputs, (str, Path)) else inputs
    if first.network.graph is not None or not chains:
        if any(one is not None for one in (initial_state, lengths, mask)):
            raise ParityError(
                "these are for chains of recurrent layers", "initial_state, lengths, mask", "inputs alone"
            )
        graph = first.graph
        if given is None:
            return Case(graph, random_graph_inputs(graph, lengths_for(graph, batch, (time,)), seed or 0))
        return Case(graph, check_graph_inputs(graph, given))
    network = first.network.whole()
    masked = [layer.mask_value for layer in network.layers[:1] if isinstance(layer, Masking)]
    x = random_inputs(network, batch, time, seed or 0, masked) if given is None else check_inputs(network, given)
    states = _states(network, initial_state, len(x), seed)
    return chain_case(network, x, states, check_mask(lengths, mask, x.shape[0], x.shape[1]))


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


__all__ = ["BATCH", "SHORT", "TIME", "asked_case", "is_chain", "of_one_form", "shorter"]
