"""Faults replayed in float64: which of them makes the reference compute what the suspect computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault
from parity.errors import ParityError
from parity.floor import UNIT, Band, Floor, in_floors
from parity.graph.calls import Layered
from parity.graph.floors import REPLICAS, keeps_samples_apart, measure
from parity.judge import LIMIT
from parity.network import Recurrent
from parity.recurrent import DIRECTIONS

NEAR = 1000.0
"""A fault stays in the choice while what it computes is within so many floors of the reference: its own floor may be larger."""

_LEAST = 0.01
"""While hypotheses are screened, no floor counts as less than so much of the largest one of its sample."""

SAME = 1e-9
"""Two hypotheses whose outputs are nowhere further apart than this, as a share of the largest number, compute the same."""


@dataclass(frozen=True, eq=False)
class Stage:
    """One run of the suspect: a case, and what the suspect gave for it.

    Args:
        case: the right model on the inputs.
        observed: what the suspect gave, by the names of the case's outputs; one that it does not show is left out.
        floor: of the right model.
        prefix: whether it is the beginning of a longer run: it says nothing of mistakes that change what depends on what.
    """

    case: Case
    observed: dict[str, Array]
    floor: Floor
    prefix: bool = False

    def error(self, outputs: Mapping[str, Array]) -> float:
        """The largest absolute difference from what the suspect gave; infinite for other shapes."""
        return max((float(one.max(initial=0.0)) for one in self._apart(outputs).values()), default=0.0)

    def floors(self, outputs: Mapping[str, Array], floor: Floor | None = None) -> float:
        """The same in floors: of the right model, or of the one whose floor is given."""
        apart = self.apart_in_floors(outputs, floor)
        return max((float(one.max(initial=0.0)) for one in apart.values()), default=0.0)

    def nearness(self, outputs: Mapping[str, Array]) -> float:
        """The same in floors that tell near from far.

        Where the right model gives exact zeros, as at padded steps, it has no floor; a model with a mistake gives numbers there and rounds
        them. No floor counts as less than a share of its sample's largest one, and than what rounding makes of the suspect's numbers.
        """
        return self.floors(outputs, self._bounded)

    @cached_property
    def _bounded(self) -> Floor:
        bands = self.floor.bands
        made = {name: _bounded(bands[name], seen) for name, seen in self.observed.items() if name in bands}
        return replace(self.floor, bands={**bands, **made})

    def apart_in_floors(self, outputs: Mapping[str, Array], floor: Floor | None = None) -> dict[str, Array]:
        """Every value's difference from what the suspect gave, in floors, by output; infinite for other shapes."""
        bands, found = (floor or self.floor).bands, {}
        for name, apart in self._apart(outputs).items():
            band = bands[name]
            if apart.shape != band.reference.shape:
                # A mistake that changes the shape, too, has no floors of its own here: the largest one tells near from far.
                found[name] = in_floors(apart, np.full(apart.shape, band.floor.max(initial=0.0)))
                continue
            comparable = np.broadcast_to(band.comparable, apart.shape)
            found[name] = np.where(comparable, in_floors(apart, band.floor), 0.0)
        return found

    def first_step(self) -> int | None:
        """The first step at which the suspect is off, over the outputs that have steps."""
        apart, steps = self._apart(self.case.outputs()), []
        for name, band in self.floor.bands.items():
            if name in apart and "time" in band.quantity.axes and apart[name].shape == band.reference.shape:
                off = in_floors(apart[name], band.floor) > LIMIT
                axis = band.quantity.axes.index("time")
                wrong = off.any(axis=tuple(other for other in range(off.ndim) if other != axis))
                steps += [int(wrong.argmax())] if wrong.any() else []
        return min(steps, default=None)

    def _apart(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, seen in self.observed.items():
            computed = outputs.get(name)
            if computed is None or computed.shape != seen.shape:
                found[name] = np.full(seen.shape if seen.size else (1,), np.inf)
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                apart = np.abs(np.asarray(seen, np.float64) - np.asarray(computed, np.float64))
            apart = np.where(np.isfinite(apart), apart, np.inf)
            found[name] = np.where(self.case.ignored[name], 0.0, apart) if name in self.case.ignored else apart
        return found


def _bounded(band: Band, seen: Array) -> Band:
    """A band whose floor is no less than rounding makes of what a suspect gave; integers are right or wrong."""
    if not band.floor.any() or seen.shape != band.reference.shape or seen.dtype.kind != "f":
        return band
    others = tuple(axis for axis, name in enumerate(band.quantity.axes) if name != "batch")
    size = np.where(np.isfinite(seen), np.abs(np.asarray(seen, np.float64)), 0.0).max(axis=others, keepdims=True)
    largest = np.where(band.comparable, band.floor, 0.0).max(axis=others, keepdims=True)
    return replace(band, floor=np.maximum(band.floor, np.maximum(_LEAST * largest, UNIT * size)))


def beginning(stage: Stage, steps: int) -> Stage | None:
    """The first steps of a run, where they depend on nothing later: of layers that run forward in time, and outputs that have steps.

    Args:
        stage: the run.
        steps: so many.

    Returns:
        A stage of type `prefix`; None where there is none.
    """
    graph = stage.case.graph
    forward = all(
        one.spec.directions == DIRECTIONS[:1] and not one.reverse
        for one in graph.operations
        if isinstance(one, Recurrent)
    )
    timed = {
        name: array[:, :steps]
        for name, array in stage.observed.items()
        if "time" in stage.floor.bands[name].quantity.axes[:2] and array.ndim > 1 and array.shape[1] > steps
    }
    if not (forward and timed and keeps_samples_apart(graph)):
        return None
    case = stage.case.beginning(steps)
    return Stage(case, timed, floor_of(case, FEW_REPLICAS), prefix=True)


FEW_REPLICAS = 4
"""The floor of a short run only has to tell near from far."""


def stage_of(case: Case, observed: Mapping[str, Array], replicas: int = REPLICAS) -> Stage:
    """A run of the suspect, with the floor of the right model.

    Args:
        case: the right model on the inputs that the suspect got.
        observed: what the suspect gave.
        replicas: of the floor.
    """
    return Stage(case, dict(observed), floor_of(case, replicas))


def floor_of(case: Case, replicas: int = REPLICAS) -> Floor:
    """The floor of every output of a case."""
    together = keeps_samples_apart(case.graph)
    return measure(case.graph, case.inputs, dict(case.graph.outputs), replicas, together=together)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """Faults, made one after the other, and how near they come to what the suspect gave.

    Args:
        faults: none for the right model itself.
        error: the largest absolute difference, in the last stage that it reached.
        floors: the same in floors; in its own floors where it is `measured`, else in those of the right model, see `Stage.nearness`.
        measured: whether its own floor was measured, in the run that is asked about.
    """

    faults: tuple[Fault, ...]
    error: float
    floors: float
    measured: bool = False

    @property
    def fits(self) -> bool:
        """Whether it computes what the suspect computes, to the floor."""
        return self.measured and self.floors <= LIMIT

    @property
    def rank(self) -> float:
        """How likely people are to make these mistakes: the smaller the likelier."""
        return sum(fault.rank + 1000.0 for fault in self.faults)


def replayed(case: Case, faults: Iterable[Fault]) -> Case | None:
    """A right model with mistakes made in it, one after the other; None where they cannot be made in it."""
    made: Case | None = case
    for fault in faults:
        try:
            made = fault.replay(made) if made is not None else None
        except (ParityError, KeyError, ValueError, IndexError):
            return None
    return made


def outputs_of(case: Case | None) -> dict[str, Array] | None:
    """What a case gives; None where it cannot be computed."""
    if case is None:
        return None
    try:
        return case.outputs()
    except (ParityError, ValueError, IndexError):
        return None


def screened(
    stages: Sequence[Stage], hypotheses: Iterable[tuple[Fault, ...]], said: Callable[[], None] = lambda: None
) -> Iterator[Hypothesis]:
    """How near every hypothesis comes, as `Stage.nearness` has it: of the first stage at which it is far away, or of the last.

    Args:
        stages: the runs of the suspect, short ones first: what is far away in one need not be run in the next.
        hypotheses: faults to be made together.
        said: called after each.
    """
    first = _First(stages)
    for faults in hypotheses:
        found = Hypothesis(faults, float("inf"), float("inf"))
        for place, stage in enumerate(stages):
            case = first.replayed(place, faults)
            if stage.prefix and case is not None and not wired_alike(case, stage.case):
                continue
            outputs = outputs_of(case)
            if outputs is None:
                found = Hypothesis(faults, float("inf"), float("inf"))
                break
            found = Hypothesis(faults, stage.error(outputs), stage.nearness(outputs))
            if found.floors > NEAR:
                break
        said()
        yield found


class _First:
    """Cases with the first of several faults made, kept for the next hypothesis that begins with it; of small models alone."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages
        held = [one for _, _, one in stages[0].case.graph.weights()] if stages else []
        self._keeps = sum(one.nbytes for one in held) <= _SMALL_BYTES
        self._kept: dict[tuple[int, Fault], Case | None] = {}

    def replayed(self, place: int, faults: tuple[Fault, ...]) -> Case | None:
        """The case of a stage with all faults made."""
        case = self._stages[place].case
        if len(faults) < 2 or not self._keeps:
            return replayed(case, faults)
        key = place, faults[0]
        if key not in self._kept:
            self._kept[key] = replayed(case, faults[:1])
        begun = self._kept[key]
        return None if begun is None else replayed(begun, faults[1:])


_SMALL_BYTES = 1 << 18


def wired_alike(one: Case, other: Case) -> bool:
    """Whether two cases differ in weights and options of their layers alone, none of which now runs backwards."""
    wires = [
        [(node.name, node.inputs, _directions(node.operation)) for node in case.graph.nodes]
        + list(case.graph.outputs.items())
        for case in (one, other)
    ]
    return wires[0] == wires[1] and one.inputs.keys() == other.inputs.keys()


def _directions(operation: Layered) -> object:
    return (operation.spec.directions, operation.reverse) if isinstance(operation, Recurrent) else None


def confirmed(stage: Stage, faults: tuple[Fault, ...]) -> Hypothesis:
    """A near hypothesis measured in its own floors; that of no fault at all in the right model's.

    Args:
        stage: the run that is asked about.
        faults: made together.
    """
    case = replayed(stage.case, faults)
    outputs = outputs_of(case)
    if case is None or outputs is None:
        return Hypothesis(faults, float("inf"), float("inf"), measured=True)
    floor = floor_of(case) if faults else stage.floor
    return Hypothesis(faults, stage.error(outputs), stage.floors(outputs, floor), measured=True)


def equivalent(case: Case, one: Sequence[Fault], two: Sequence[Fault]) -> bool:
    """Whether two hypotheses compute the same on a case: then they are one, said in two ways."""
    left, right = outputs_of(replayed(case, one)), outputs_of(replayed(case, two))
    if left is None or right is None or left.keys() != right.keys():
        return False
    return all(_same(left[name], right[name]) for name in left)


def _same(left: Array, right: Array) -> bool:
    if left.shape != right.shape:
        return False
    scale = float(np.abs(left).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        return bool(np.nan_to_num(np.abs(left - right), nan=0.0).max(initial=0.0) <= SAME * scale)


__all__ = [
    "FEW_REPLICAS",
    "NEAR",
    "Hypothesis",
    "Stage",
    "beginning",
    "confirmed",
    "equivalent",
    "floor_of",
    "outputs_of",
    "replayed",
    "screened",
    "stage_of",
    "wired_alike",
]
