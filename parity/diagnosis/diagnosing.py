"""Why a suspect does not compute what a reference computes: faults replayed until one of them gives what the suspect gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from parity.diagnosis.case import Case, chain_case
from parity.diagnosis.diagnosis import Diagnosis, evidence_of
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults import faults_of
from parity.diagnosis.recording import is_recording, recorded
from parity.diagnosis.replay import NEAR, Hypothesis, Stage, confirmed, equivalent, pairs_of, screened, stage_of
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, RecordedSuspect, Suspect
from parity.errors import ParityError, ShapeError
from parity.files.npz_file import read_inputs
from parity.frameworks import Settings
from parity.graph.inputs import check_graph_inputs, random_graph_inputs
from parity.graph.lengths import lengths_for
from parity.network import Masking, Network
from parity.recurrent import RecurrentSpec
from parity.result import Inputs, State, check_states
from parity.running import check_inputs, check_mask, random_inputs
from parity.sources import Opened, Source, open_source

BATCH, TIME = 4, 17
"""Samples and steps of random inputs."""

SHORT = (1, 7)
"""Steps of the runs that come before: what is far away on few steps need not be run on many."""

FEW_REPLICAS = 4
"""The floor of such a run only has to tell near from far."""

_CANDIDATES = 12
"""So many near hypotheses are measured in their own floors."""

_NEAREST = 3


def diagnose(
    reference: Source,
    suspect: Any,
    inputs: Inputs | str | Path | None = None,
    initial_state: object = None,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch: int | None = None,
    time: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    tf32: bool = False,
    pairs: bool = True,
    progress: Callable[[str, int], None] | None = None,
) -> Diagnosis:
    """Find the likely cause of a disagreement.

    Every mistake that parity knows is made in the reference, in float64, and the one whose outputs are the suspect's, to the measured
    float32 floor, is the cause; then pairs of mistakes.

    Args:
        reference: what is right: anything that `compare` takes.
        suspect: what is to be explained: anything that `compare` takes, run in its own engine; or what it gave once, as a dict with
            "inputs" and "outputs" (an array, or arrays by name), or the path of such an `.npz` file.
        inputs: as for `compare`; random if None, of 4 samples and 17 steps.
        initial_state: as for `compare`; of layers by themselves random if None, as zeros would hide mistakes.
        lengths, mask: as for `compare`.
        batch, time, seed: of random inputs.
        device, tf32: where the suspect runs.
        pairs: whether pairs of mistakes are tried where no single one explains it.
        progress: called with what is being done and how many steps it has, then with "" for each of them.

    Returns:
        The cause, where, the evidence and the repair; see `Diagnosis`.

    Raises:
        ShapeError: inputs that do not fit, or models that cannot be compared at all.
        UnsupportedError: a model that cannot be read.

    Example:
        >>> import torch
        >>> right = torch.nn.LSTM(3, 5, batch_first=True)
        >>> wrong = torch.nn.LSTM(3, 5, batch_first=True)
        >>> _ = wrong.load_state_dict({name: w.roll(5, 0) if name == "weight_hh_l0" else w for name, w in right.state_dict().items()})
        >>> found = diagnose(right, wrong)
        >>> found.found, found.where[0].tensor
        (True, 'recurrent')
    """
    settings = Settings(device, "float32", tf32)
    sizes = (batch or BATCH, time or TIME, seed)
    if is_recording(suspect):
        recording = recorded(suspect)
        first = open_source(reference, partial=True)
        case = _case(first, recording.inputs if inputs is None else inputs, initial_state, lengths, mask, sizes)
        observer: Suspect = RecordedSuspect(recording.by_name(case), recording.label)
        return investigate(first, observer, [case], pairs, progress)
    first = open_source(reference, partial=True)
    other = open_source(suspect, partial=True)
    chains = _is_chain(first, other)
    case = _case(first, inputs, initial_state, lengths, mask, sizes, chains)
    observer = ChainSuspect(other, first.network, settings) if chains else GraphSuspect(other, settings)
    return investigate(first, observer, [*_shorter(case), case], pairs, progress)


def investigate(
    first: Opened,
    suspect: Suspect,
    cases: Sequence[Case],
    pairs: bool = True,
    progress: Callable[[str, int], None] | None = None,
) -> Diagnosis:
    """Replay every fault, then pairs of them, against what the suspect gives on some cases, the last of which is the one asked about."""
    say = progress or (lambda _, __: None)
    *before_it, last = cases
    stages = [stage_of(case, suspect.observe(case), FEW_REPLICAS) for case in before_it]
    stages.append(stage_of(last, suspect.observe(last)))
    asked = stages[-1]
    right = confirmed(asked, ())
    if right.fits:
        return Diagnosis(first.label, suspect.label, True, evidence=(evidence_of(right, right.error),))
    faults = list(faults_of(asked.case))
    singles = _ranked(stages, [(fault,) for fault in faults], "single mistakes", say)
    found = _fitting(asked, singles)
    if not found and pairs:
        both = list(pairs_of(faults))
        double = _ranked(stages, both, "pairs of mistakes", say)
        found, singles = _fitting(asked, double), sorted([*singles, *double], key=_nearness)
    before = asked.error(asked.case.outputs())
    if not found:
        nearest = [evidence_of(one, before) for one in singles[:_NEAREST]]
        kinds = tuple(dict.fromkeys(fault.name for fault in faults))
        return Diagnosis(
            first.label,
            suspect.label,
            False,
            evidence=tuple(nearest),
            first_step=asked.first_step(),
            tried=len(singles),
            ruled_out=kinds,
        )
    best, *rest = _distinct(asked.case, found)
    others = [one for one in singles if not any(set(one.faults) == set(fit.faults) for fit in found)]
    return Diagnosis(
        first.label,
        suspect.label,
        False,
        best.faults,
        tuple(one.faults for one in rest),
        tuple(evidence_of(one, before) for one in (best, *rest, *others[:_NEAREST])),
        asked.first_step(),
        len(singles),
    )


def _ranked(
    stages: Sequence[Stage], hypotheses: Sequence[tuple[Fault, ...]], title: str, say: Callable[[str, int], None]
) -> list[Hypothesis]:
    """All hypotheses, the nearest first."""
    say(title, len(hypotheses))
    return sorted(screened(stages, hypotheses, lambda: say("", 1)), key=_nearness)


def _nearness(one: Hypothesis) -> tuple[float, float]:
    return one.floors, one.rank


def _fitting(asked: Stage, ranked: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Those that explain the suspect to their own floor, the likeliest first."""
    near = [one for one in ranked if one.floors <= NEAR][:_CANDIDATES]
    fits = [one for one in (confirmed(asked, candidate.faults) for candidate in near) if one.fits]
    return sorted(fits, key=lambda one: one.rank)


def _distinct(case: Case, found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Hypotheses that differ in what they compute on a richer case than the one asked about; of equal ones the likeliest."""
    kept: list[Hypothesis] = []
    for one in found:
        if not any(equivalent(case, one.faults, other.faults) for other in kept):
            kept.append(one)
    return kept


def _is_chain(first: Opened, other: Opened) -> bool:
    """Whether both are chains of layers of one form; else they are compared as graphs.

    Raises:
        ShapeError: layers by themselves of other sizes, or beside a model.
    """
    if first.network.graph is not None or other.network.graph is not None:
        return False
    for source in (first, other):
        source.network.whole()
    if first.network.bare != other.network.bare:
        raise ShapeError("a layer by itself is not compared with a model", f"{first.label} and {other.label}")
    mine, theirs = ([_sizes(spec) for spec in one.network.specs.values()] for one in (first, other))
    if mine != theirs:
        pair = f"{first.label} and {other.label}"
        raise ShapeError("the recurrent layers differ in kind, size or direction", pair, str(mine), str(theirs))
    return True


def _sizes(spec: RecurrentSpec) -> str:
    return f"{spec.kind} {spec.input_size}->{spec.hidden_size} {' and '.join(spec.directions)}"


def _case(
    first: Opened,
    inputs: Inputs | str | Path | None,
    initial_state: object,
    lengths: ArrayLike | None,
    mask: ArrayLike | None,
    sizes: tuple[int, int, int],
    chains: bool = True,
) -> Case:
    """The right model on the inputs that are asked about."""
    batch, time, seed = sizes
    given = read_inputs(Path(inputs)) if isinstance(inputs, (str, Path)) else inputs
    if first.network.graph is not None or not chains:
        if any(one is not None for one in (initial_state, lengths, mask)):
            raise ParityError(
                "these are for chains of recurrent layers", "initial_state, lengths, mask", "inputs alone"
            )
        graph = first.graph
        if given is None:
            return Case(graph, random_graph_inputs(graph, lengths_for(graph, batch, (time,)), seed))
        return Case(graph, check_graph_inputs(graph, given))
    network = first.network.whole()
    masked = [layer.mask_value for layer in network.layers[:1] if isinstance(layer, Masking)]
    x = random_inputs(network, batch, time, seed, masked) if given is None else check_inputs(network, given)
    states = _states(network, initial_state, len(x), seed)
    return chain_case(network, x, states, check_mask(lengths, mask, x.shape[0], x.shape[1]))


def _states(network: Network, given: object, batch: int, seed: int) -> dict[str, State]:
    """The initial states that are given; of layers by themselves random ones by default."""
    if given is not None or not network.bare:
        return check_states(network.specs, given, batch)
    random = np.random.default_rng(seed + 1)
    return {
        name: State(
            *(random.uniform(-0.9, 0.9, spec.state_shape(state, batch)).astype(np.float32) for state in spec.states)
        )
        for name, spec in network.specs.items()
    }


def _shorter(case: Case) -> Iterator[Case]:
    """The first steps of a case, where the model takes so few."""
    words = {one.name: one.shape for one in case.graph.inputs}
    for steps in SHORT:
        cut = {name: _cut(array, words[name], steps) for name, array in case.inputs.items()}
        if all(cut[name] is case.inputs[name] for name in cut):
            continue
        ignored = {name: array[:, :steps] for name, array in case.ignored.items()}
        shorter = Case(case.graph, cut, ignored)
        try:
            shorter.outputs()
        except ParityError:
            continue
        yield shorter


def _cut(array: np.ndarray[Any, Any], shape: Sequence[int | str], steps: int) -> np.ndarray[Any, Any]:
    if "time" not in shape or array.shape[shape.index("time")] <= steps:
        return array
    return array.take(range(steps), axis=shape.index("time"))


__all__ = ["diagnose", "investigate"]
