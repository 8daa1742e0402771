"""A number in a mistake, estimated: the one with which the right model comes nearest to what the suspect computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from parity.deferred import Array
from parity.diagnosis.fault import Fault
from parity.diagnosis.faults.estimates import Estimate
from parity.diagnosis.replay import NEAR, Stage, outputs_of, replayed
from parity.judge import LIMIT

_SCANNED, _STEPS, _DIGITS = 7, 12, 6
_NUDGE = 1e-4
"""Of the logarithm of the number, for a derivative by differences."""


def estimated(stage: Stage, estimates: Iterable[Estimate], said: Callable[[], None] = lambda: None) -> Iterator[Fault]:
    """The mistakes whose number can be chosen so that they come near to what the suspect computed, with the roundest such number.

    Args:
        stage: the run that is asked about.
        estimates: what is tried.
        said: called after each.
    """
    for estimate in estimates:
        value = _nearest(stage, estimate)
        said()
        if value is not None:
            yield estimate.fault(value)


def _nearest(stage: Stage, estimate: Estimate) -> float | None:
    """By least squares in the number's logarithm (Gauss-Newton), from the best of a few; None where none comes near."""
    ends = math.log(estimate.low), math.log(estimate.high)
    starts = [(size, place) for place in np.linspace(*ends, _SCANNED) if (size := _size(_off(stage, estimate, place)))]
    if not starts:
        return None
    best, place = min(starts)
    for _ in range(_STEPS):
        off = _off(stage, estimate, place)
        nudged = _off(stage, estimate, place + _NUDGE)
        if off is None or nudged is None:
            break
        slope = (nudged - off) / _NUDGE
        steepness = float(slope @ slope)
        step = -float(slope @ off) / steepness if steepness else 0.0
        # A step that leads away is halved; one that is lost in rounding ends the search.
        while abs(step) > 1e-9:
            trial = float(np.clip(place + np.clip(step, -2.0, 2.0), *ends))
            size = _size(_off(stage, estimate, trial))
            if size is not None and size < best:
                best, place = size, trial
                break
            step /= 2
        else:
            break
    return _roundest(stage, estimate, math.exp(place))


def _roundest(stage: Stage, estimate: Estimate, value: float) -> float | None:
    """The number with as few digits as explain the suspect; with all of them where it is near alone."""
    for digits in range(1, _DIGITS + 1):
        rounded = float(f"{value:.{digits}g}")
        if _floors(stage, estimate, rounded) <= LIMIT:
            return rounded
    return value if _floors(stage, estimate, value) <= NEAR else None


def _floors(stage: Stage, estimate: Estimate, value: float) -> float:
    outputs = outputs_of(replayed(stage.case, (estimate.fault(value),)))
    return float("inf") if outputs is None else stage.floors(outputs)


def _off(stage: Stage, estimate: Estimate, place: float) -> Array | None:
    """How far every number is from what the suspect computed; None where that cannot be said."""
    outputs = outputs_of(replayed(stage.case, (estimate.fault(math.exp(place)),)))
    if outputs is None:
        return None
    parts = []
    for name, seen in stage.observed.items():
        if name not in outputs or outputs[name].shape != seen.shape:
            return None
        apart = np.asarray(outputs[name], np.float64) - seen
        parts.append(np.where(stage.case.ignored[name], 0.0, apart) if name in stage.case.ignored else apart)
    found = np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0)
    return found if np.isfinite(found).all() else None


def _size(off: Array | None) -> float | None:
    return None if off is None else float(off @ off)


__all__ = ["estimated"]
