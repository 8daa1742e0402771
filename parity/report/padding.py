"""What a mask leaves out, and what every engine puts there: told from the results themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parity.errors import ParityError
from parity.findings import Findings
from parity.floor import Band
from parity.graph.padding import made_by, shared_mask
from parity.in_blocks import BLOCK_SIZE, blocks
from parity.judge import LIMIT
from parity.recurrent import Array, Direction
from parity.reference import Float64, Mask
from parity.report.record_values import padded_steps, with_steps_second
from parity.result import LayerRun, State

_MOST_LENGTHS = 256
"""Of a larger batch the shortest and the longest are kept, and not every length."""


def mask_record(findings: Findings) -> dict[str, Any] | None:
    """The mask of a comparison and what it does, as plain values; None where every step is valid.

    Returns:
        "valid" of "total" steps; "lengths" where the padding is on the right and the batch is small, with "shortest" and "longest";
        who "made" the mask; and under "engines", for every participant and the reference, what stands at padded steps ("steps": zero,
        repeat, other or not shown, with the "largest" value there), the step after which the final state was taken ("state"), and the
        final state of samples without a valid step ("empty": zero, initial state or other; None where there is no such sample).
        Of a whole model the steps are those of the mask that all its recurrent layers share, None where they do not share one;
        "layers" are the outputs in which padded steps stand by themselves, and no engine shows its states.
    """
    if isinstance(findings.inputs, dict):
        return _of_whole_model(findings, findings.inputs)
    masks = {name: path.mask for name, path in findings.judgement.floor.trajectories.items() if path.mask is not None}
    if not masks:
        return None
    valid: Mask = np.logical_and.reduce(list(masks.values()))
    if valid.all():
        return None
    made = [name for name in ("lengths", "mask") if findings.asked.get(name) is not None]
    made += ["the model itself"] if findings.sources[0].network.masks_itself else []
    entries = [entry for label in findings.results for entry in _entries(findings, label, masks)]
    return {**_sizes(valid), "made": made, "engines": entries}


def _sizes(valid: Mask) -> dict[str, Any]:
    """How many steps are valid, and where padding stands on the right how long the samples are."""
    counts = valid.sum(axis=1)
    right = bool((valid == (np.arange(valid.shape[1]) < counts[:, None])).all())
    return {
        "valid": int(valid.sum()),
        "total": valid.size,
        "lengths": counts.tolist() if right and counts.size <= _MOST_LENGTHS else None,
        "shortest": int(counts.min()) if right else None,
        "longest": int(counts.max()) if right else None,
    }


def _of_whole_model(findings: Findings, inputs: Mapping[str, Array]) -> dict[str, Any] | None:
    try:
        graph = findings.sources[0].graph
    except ParityError:  # layers that nobody knows: so are their masks
        return None
    mask = shared_mask(graph, inputs)
    if mask is None or mask.all():
        return None
    padded = {
        name: band
        for name, band in findings.judgement.floor.bands.items()
        if band.padded is not None and band.padded.any()
    }
    shown = {
        label: {f"output {name}": array for name, array in result.outputs.items()}
        for label, result in findings.results.items()
    }
    entries = [
        {"engine": label, "layers": [name], **_left(band, arrays[name]), "state": "not shown", "empty": None}
        for label, arrays in shown.items()
        for name, band in padded.items()
        if name in arrays and arrays[name].shape == band.reference.shape
    ]
    return {**_sizes(mask), "made": made_by(graph), "engines": entries}


def _left(band: Band, array: Array) -> dict[str, Any]:
    """What stands at the padded steps of an output, and its largest absolute value."""
    found = with_steps_second(array, band.quantity.axes)
    valid = ~padded_steps(with_steps_second(np.asarray(band.padded), band.quantity.axes), found.shape[:2])
    rows = found.reshape(*valid.shape, -1)
    held = "zero" if _zero(rows, valid) else "repeat" if _repeats(rows, valid) else "other"
    return {"steps": held, "largest": float(np.abs(rows[~valid]).max(initial=0.0))}


def _entries(findings: Findings, label: str, masks: dict[str, Mask]) -> list[dict[str, Any]]:
    """What one engine does, layers that do the same together."""
    floor, network = findings.judgement.floor, findings.sources[0].network
    found: dict[tuple[str, str, str | None], dict[str, Any]] = {}
    for name, mask in masks.items():
        run = findings.results[label].layers.get(name)
        if run is None:
            continue
        band = floor.bands["h_n" if len(network.recurrent) == 1 else f"{name}.h_n"]
        directions, initial = floor.trajectories[name].directions, floor.trajectories[name].initial
        steps, largest = _steps(run, mask, directions)
        own = (steps, _taken(run, mask, directions, LIMIT * band.floor), _empty(run.final, initial, mask))
        entry = found.setdefault(
            own,
            {"engine": label, "layers": [], "steps": steps, "largest": 0.0, "state": own[1], "empty": own[2]},
        )
        entry["layers"].append(name)
        entry["largest"] = max(entry["largest"], largest)
    return list(found.values())


def _steps(run: LayerRun, mask: Mask, directions: tuple[Direction, ...]) -> tuple[str, float]:
    """What stands at padded steps, and its largest absolute value."""
    if run.sequence is None or run.sequence.shape[:2] != mask.shape:
        return "not shown", 0.0
    possible = {"zero", "repeat"}
    for index, direction in enumerate(directions):
        own, valid = _processed(run.sequence[:, :, index], direction), _processed(mask, direction)
        possible &= {name for name, fits in (("zero", _zero(own, valid)), ("repeat", _repeats(own, valid))) if fits}
    held = next((name for name in ("zero", "repeat") if name in possible), "other")
    return held, float(np.abs(run.sequence[~mask]).max(initial=0.0))


def _processed(array: Array, direction: Direction) -> Array:
    """Steps of (batch, time, ...) in the order in which a direction processes them."""
    return array[:, :: -1 if direction == "backward" else 1]


def _zero(own: Array, valid: Mask) -> bool:
    return all(not own[rows][~valid[rows]].any() for rows in _samples(own))


def _repeats(own: Array, valid: Mask) -> bool:
    """Whether padded steps hold the output of the last valid step processed before, and zero before the first."""
    return all(_repeat(own[rows], valid[rows]) for rows in _samples(own))


def _repeat(own: Array, valid: Mask) -> bool:
    last = _last_valid(valid)
    kept = np.where((last >= 0)[..., None], np.take_along_axis(own, np.maximum(last, 0)[..., None], axis=1), 0.0)
    return bool(np.array_equal(own[~valid], kept[~valid]))


def _samples(own: Array) -> Iterator[slice]:
    """Samples of (batch, time, features), so many at a time as memory is no matter."""
    batch, time, features = own.shape
    return (rows for rows, _ in blocks((batch, time * features), max(BLOCK_SIZE, time * features)))


def _last_valid(valid: Mask) -> NDArray[np.intp]:
    """For every step the last valid one up to it, -1 before the first.

    Example:
        >>> _last_valid(np.array([[False, True, False, True, False]])).tolist()
        [[-1, 1, 1, 3, 3]]
    """
    return np.maximum.accumulate(np.where(valid, np.arange(valid.shape[1]), -1), axis=1)


def _taken(run: LayerRun, mask: Mask, directions: tuple[Direction, ...], allowed: Float64) -> str:
    """The step whose output is the final h: the last valid one, or the last of all, in the order of processing; "none" if none is valid."""
    if run.sequence is None or run.sequence.shape[:2] != mask.shape:
        return "not shown"
    some = mask.any(axis=1)
    if not some.any():
        return "none"
    possible = {"last valid step", "last step of all"}
    for index, direction in enumerate(directions):
        own = _processed(run.sequence[:, :, index], direction)
        rows, ends = np.arange(len(own)), _last_valid(_processed(mask, direction))[:, -1]
        candidates = {"last valid step": own[rows, ends], "last step of all": own[:, -1]}
        possible &= {
            name for name, h in candidates.items() if (np.abs(run.final.h[index] - h) <= allowed[index])[some].all()
        }
    return next((name for name in ("last valid step", "last step of all") if name in possible), "other")


def _empty(final: State, initial: State, mask: Mask) -> str | None:
    """The final state of samples without any valid step."""
    none = ~mask.any(axis=1)
    if not none.any():
        return None
    finals, initials = ([array[:, none] for array in state.arrays()] for state in (final, initial))
    if not any(array.any() for array in finals):
        return "zero"
    same = all(np.array_equal(a, b.astype(a.dtype)) for a, b in zip(finals, initials, strict=True))
    return "initial state" if same else "other"


__all__ = ["mask_record"]
