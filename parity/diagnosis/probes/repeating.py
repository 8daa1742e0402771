"""The same inputs again: a suspect that gives something else at every call cannot be replayed, and why it does is the cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.probes.asking import other_than
from parity.diagnosis.probes.patterns import MOVED
from parity.diagnosis.probes.probe import Probe
from parity.diagnosis.repair import CallRepair
from parity.diagnosis.replay import Stage
from parity.diagnosis.suspects import Suspect
from parity.errors import ParityError
from parity.floor import in_floors
from parity.graph.inputs import masked_inputs

AGAIN = "the same inputs again, and once more after others"

RANDOM = "gives something else at every call of the same inputs: dropout, or another draw of random numbers, is left on"
STATE = "carries its state from one call to the next: the same inputs give something else after other ones"
EITHER = (
    "gives something else at every call of the same inputs, whatever came before: dropout, or another draw of random numbers, is left on, "
    "or it counts its calls"
)
UNKNOWN = "gives something else at every call of the same inputs: dropout is left on, or it carries its state from one call to the next"


def repeated(suspect: Suspect, stage: Stage) -> Probe | None:
    """Whether a suspect gives the same for the same inputs, whatever it was called with before.

    Args:
        suspect: what is to be explained.
        stage: a run of it.

    Returns:
        None for a recording, which cannot be run again.
    """
    if not suspect.live:
        return None
    again = suspect.observe(stage.case)
    suspect.observe(_other(stage.case))  # a state of before is forgotten over many steps: the same would leave the same
    runs = (stage.observed, again, suspect.observe(stage.case))
    apart = [_apart(stage, one, two) for one, two in combinations(runs, 2)]
    if max(floors for _, floors in apart) < MOVED:
        return Probe(AGAIN, "the same", "the same", False, kind="repeated")
    found = f"apart by up to {max(error for error, _ in apart):.3g}"
    return Probe(AGAIN, "the same", found, True, _why(suspect, stage), "repeated")


def cause_of(probe: Probe | None) -> Fault | None:
    """What makes a suspect give something else at every call, as a mistake that no replay can repeat; None where it does not, or where
    it cannot be told why.

    Args:
        probe: what `repeated` gave.
    """
    if probe is None or probe.meaning not in _CAUSES:
        return None
    name, repair = _CAUSES[probe.meaning]
    return Fault(name, probe.meaning, Place(), _beyond_replay, (repair,), rank=42)


def _beyond_replay(case: Case) -> Case:
    raise ParityError("what is random or depends on earlier calls cannot be replayed", case.graph.name)


_QUIET = CallRepair(
    "",
    "mode",
    "suspect.eval()  # turns off nn.Dropout\n"
    "y = F.dropout(x, p, training=self.training)  # in place of training=True, which eval() does not reach\n"
    "# and no module inside is put back into training by .train() or by an eval() of its own",
    "y = keras.layers.Dropout(rate)(x)  # without training=True, which stands in the model for good\n"
    "y = suspect(x, training=False)",
)
_ANEW = CallRepair(
    "",
    "initial state",
    "y, state = self.lstm(x)  # every call begins with zeros; or the caller hands the state over: self.lstm(x, state)",
    "suspect.reset_states()  # before every call; or stateful=False",
)
_CAUSES = {
    RANDOM: ("dropout left on", _QUIET),
    EITHER: ("dropout left on", _QUIET),
    STATE: ("state carried over", _ANEW),
}


def _why(suspect: Suspect, stage: Stage) -> str:
    """Two copies that get the same calls differ if random numbers are drawn; with unlike first calls they differ if a state is kept."""
    copies = [copy for _ in range(3) if (copy := suspect.copied()) is not None]
    if len(copies) < 3:
        return UNKNOWN
    first, second, third = copies
    same, other = stage.case, _other(stage.case)
    for copy, before in ((first, same), (second, same), (third, other)):
        copy.observe(before)
    one, two, three = (copy.observe(same) for copy in copies)
    if _apart(stage, one, two)[1] >= MOVED:
        return RANDOM
    return STATE if _apart(stage, one, three)[1] >= MOVED else EITHER


def _other(case: Case) -> Case:
    """Other inputs of the same shapes."""
    below, marks = {one.name: one.below for one in case.graph.inputs}, masked_inputs(case.graph)
    inputs = {name: other_than(array, below[name], marks.get(name)) for name, array in case.inputs.items()}
    return replace(case, inputs=inputs)


def _apart(stage: Stage, one: Mapping[str, Array], two: Mapping[str, Array]) -> tuple[float, float]:
    """How far two runs of the same inputs are apart, and in floors; in shares of a millionth where the floor has another shape."""
    largest, most = 0.0, 0.0
    for name, left in one.items():
        right, band = two[name], stage.floor.bands[name]
        if left.shape != right.shape:
            return float("inf"), float("inf")
        with np.errstate(invalid="ignore"):
            apart = np.abs(left.astype(np.float64) - right.astype(np.float64))
        apart = np.where(np.isfinite(apart), apart, 0.0)
        fits = left.shape == band.reference.shape
        floor = band.floor if fits else np.full((1,) * left.ndim, 1e-6 * float(np.abs(left).max(initial=0.0)))
        known = np.where(np.broadcast_to(band.comparable, left.shape), apart, 0.0) if fits else apart
        largest = max(largest, float(apart.max(initial=0.0)))
        most = max(most, float(in_floors(known, floor).max(initial=0.0)))
    return largest, most


__all__ = ["cause_of", "repeated"]
