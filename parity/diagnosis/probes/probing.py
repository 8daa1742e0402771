"""The probes: one thing is changed, and what moves is compared with what moves in the right model.

Source of the patterns: of each mistake, what it makes of a chain of recurrent layers; see `parity.diagnosis.probes.patterns`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.probes.asking import Asked, Outputs, View, changed, first_of
from parity.diagnosis.probes.patterns import (
    MOVES,
    REST,
    SLIGHTLY,
    UNCLEAR,
    contradict,
    of_other_samples,
    of_samples,
    of_steps,
    shown,
)
from parity.diagnosis.probes.probe import Kind, Probe
from parity.graph.graph import GraphInput
from parity.graph.inputs import masked_inputs
from parity.network import Recurrent

SAME, OTHER = "the same", "something else"


def shapes(asked: Asked) -> Iterator[Probe]:
    """The shapes of what is given."""
    for name, right in asked.right.items():
        if name in asked.own:
            own = asked.own[name].shape
            meaning = f"gives '{name}' in another shape, {own}" + (
                ": batch and time are exchanged" if own[:2] == right.shape[1::-1] and own[2:] == right.shape[2:] else ""
            )
            yield _probe(f"the shape of '{name}'", str(right.shape), str(own), meaning, own != right.shape, "shapes")


def one_sample(asked: Asked) -> Iterator[Probe]:
    """A sample changed: which samples move."""
    if asked.samples < 2:
        return
    sample = 1
    both = asked.again(changed(asked, partial(_at, batch=sample)))
    if isinstance(both, str):
        return
    expected = found = REST * asked.samples
    for name in asked.alike:
        axis = asked.axis(name, "batch")
        if axis is not None:
            one, two = asked.patterns(both, name, partial(np.moveaxis, source=axis, destination=0))
            expected, found = _together(expected, one), _together(found, two)
    yield _compared(
        f"sample {sample} changed: which samples move", expected, found, of_samples(sample, found), "samples"
    )


def one_step(asked: Asked) -> Iterator[Probe]:
    """A step of a sample changed: which of its steps move, and which of the other samples'."""
    if asked.steps < 3:
        return
    sample, step = min(1, asked.samples - 1), asked.steps // 4
    both = asked.again(changed(asked, partial(_at, batch=sample, time=step)))
    if isinstance(both, str):
        return
    others = [row for row in range(asked.samples) if row != sample]
    for name in asked.alike:
        time, batch = asked.axis(name, "time"), asked.axis(name, "batch")
        if time is None or asked.right[name].shape[time] != asked.steps:
            continue
        for half, columns in _halves(asked, name):
            expected, found = asked.patterns(both, name, _steps_of(time, batch, [sample], columns))
            title = f"step {step} changed: which steps of {half or 'the outputs'} move"
            yield _compared(title, expected, found, of_steps(step, expected, found))
        if batch is not None and others:
            expected, found = asked.patterns(both, name, _steps_of(time, batch, others, slice(None)))
            title = f"step {step} of sample {sample} changed: which steps of the other samples move"
            yield _compared(title, expected, found, of_other_samples(step, found), "samples")
        return


def which_steps(asked: Asked) -> Iterator[Probe]:
    """Every step changed by itself: to which of them an output without steps listens."""
    ends = [name for name in asked.alike if asked.axis(name, "time") is None]
    if asked.steps < 3 or not ends:
        return
    runs = [asked.again(changed(asked, partial(_at, time=step))) for step in range(asked.steps)]
    for name in ends:
        for half, columns in _halves(asked, name):
            cells = [
                asked.patterns(both, name, partial(_as_one_cell, columns=columns))
                for both in runs
                if not isinstance(both, str)
            ]
            if len(cells) == asked.steps:
                expected, found = ("".join(cell[side] for cell in cells) for side in (0, 1))
                title = f"each step changed by itself: which of them move {half + ' of ' if half else ''}'{name}'"
                yield _compared(title, expected, found, _of_ends(found))


def _of_ends(found: str) -> str:
    steps = len(found)
    if not contradict(found, REST * steps):
        return "is not moved by any step there"
    if not contradict(found, REST * (steps - 1) + MOVES):
        return "hears the last step alone there, as output[:, -1] of a backward direction does"
    if not contradict(found, MOVES + REST * (steps - 1)):
        return "hears the first step alone there, as output[:, 0] of a forward direction does"
    return "does not hear the same steps there"


def alone(asked: Asked) -> Iterator[Probe]:
    """A sample without the others of its batch."""
    if asked.samples < 2:
        return
    first = asked.again(first_of(asked.case, {"batch": 1}, asked.case.inputs))
    title = "the first sample alone, without the rest of its batch"
    meaning = "gives a sample something else when it stands alone: it depends on the batch"
    yield from _cut(asked, first, "batch", 1, title, meaning, "cannot be called with one sample alone")


def shortened(asked: Asked) -> Iterator[Probe]:
    """The first steps without those behind them, and one alone."""
    if asked.steps < 3:
        return
    for steps, words in ((asked.steps // 2 + 1, "the first half of the steps"), (1, "the first step")):
        cut = asked.again(first_of(asked.case, {"time": steps}, asked.case.inputs))
        title = f"{words} alone, without those behind"
        meaning = f"gives {words} other numbers where more follow: what stands behind a step counts"
        yield from _cut(asked, cut, "time", steps, title, meaning, f"cannot be called with {steps} steps alone")


def _cut(
    asked: Asked, both: tuple[Outputs, Outputs] | str, word: str, length: int, title: str, meaning: str, refusing: str
) -> Iterator[Probe]:
    """Whether the beginning of the outputs is what the beginning of the inputs gives."""
    kind: Kind = "samples" if word == "batch" else "lengths"
    if isinstance(both, str):
        if both:
            yield Probe(title, "taken", f"refused: {both[:120]}", True, refusing, "lengths")
        return
    whole = {"batch": asked.samples, "time": asked.steps}[word]
    expected = found = REST
    for name in asked.alike:
        axis = asked.axis(name, word)
        if axis is None or asked.right[name].shape[axis] != whole:
            continue
        parts = _grown(both[0], asked.right, name, axis), _grown(both[1], asked.own, name, axis)
        if parts[0] is None or parts[1] is None:
            continue
        made = {name: parts[0]}, {name: parts[1]}
        one, two = asked.patterns(made, name, partial(_beginning, axis=axis, length=length))
        expected, found = _together(expected, one), _together(found, two)
    same = {REST: SAME, MOVES: OTHER, SLIGHTLY: OTHER}
    meaning = meaning if found == MOVES else "gives the same there, where the right model does not"
    yield _probe(title, same.get(expected, SAME), same.get(found, SAME), meaning, contradict(expected, found), kind)


def _grown(part: Outputs, whole: Outputs, name: str, axis: int) -> Array | None:
    """A shorter output at the beginning of a whole one; None where it is of other sizes."""
    short, found = part[name], whole[name].copy()
    if short.ndim != found.ndim:
        return None
    index = tuple(slice(0, size) for size in short.shape)
    if found[index].shape != short.shape or any(
        short.shape[other] != found.shape[other] for other in range(found.ndim) if other != axis
    ):
        return None
    found[index] = short
    return found


def zeros(asked: Asked) -> Iterator[Probe]:
    """Zeros for all inputs and states: every sample gives the same, and zeros only where there is no bias."""
    numbers = {one.name for one in asked.case.graph.inputs if one.dtype == "float32"}
    if any(one.dtype == "int64" for one in asked.case.graph.inputs) or not numbers:
        return
    both = asked.again({name: np.zeros_like(asked.case.inputs[name]) for name in numbers})
    if isinstance(both, str):
        return
    alike = [name for name in asked.alike if asked.axis(name, "batch") is not None]
    if asked.samples > 1 and alike:
        words = [SAME if all(_rows_alike(asked, one[name], name) for name in alike) else OTHER for one in both]
        meaning = "gives samples of nothing but zeros something else: where a sample stands in its batch counts"
        title = "zeros for every sample: what the samples give"
        yield _probe(title, words[0], words[1], meaning, words[0] != words[1], "zeros")
    words = ["zeros" if not any(np.any(one[name]) for name in asked.alike) else "other numbers" for one in both]
    meaning = (
        "gives zeros for zeros: it has no biases" if words[1] == "zeros" else "gives no zeros for zeros: it has biases"
    )
    if words[1] != "zeros" and 0.0 in masked_inputs(asked.case.graph).values():
        meaning = "computes steps of nothing but zeros, which the right model leaves out"
    yield _probe("zeros for everything: what comes out", words[0], words[1], meaning, words[0] != words[1], "zeros")


def _rows_alike(asked: Asked, array: Array, name: str) -> bool:
    axis = asked.axis(name, "batch")
    assert axis is not None
    rows = np.moveaxis(array.astype(np.float64), axis, 0)
    return bool(np.abs(rows - rows[:1]).max(initial=0.0) <= 1e-4 * max(np.abs(rows).max(initial=0.0), 1e-30))


# ---- parts


def _at(one: GraphInput, **places: int) -> tuple[Any, ...] | None:
    """The index of a sample, or of a step, in an input; None for one that has not all of these axes."""
    if not set(places) <= set(one.shape):
        return None
    return tuple(places.get(str(word), slice(None)) for word in one.shape)


def _as_one_cell(array: Array, columns: slice) -> Array:
    return array[None, ..., columns]


def _beginning(array: Array, axis: int, length: int) -> Array:
    return array.take(range(length), axis=axis)[None]


def _steps_of(time: int, batch: int | None, rows: list[int], columns: slice) -> View:
    """The steps of some samples."""

    def view(array: Array) -> Array:
        some = array if batch is None else array.take(rows, axis=batch)
        return np.moveaxis(some, time, 0)[..., columns]

    return view


def _halves(asked: Asked, output: str) -> Iterator[tuple[str, slice]]:
    """The directions of an output whose layer puts them side by side; else the whole of it."""
    wire = asked.case.graph.outputs[output]
    node = next((node for node in asked.case.graph.nodes if node.name == wire.node), None)
    layer = None if node is None else node.operation
    width = asked.right[output].shape[-1] if asked.right[output].ndim else 0
    if isinstance(layer, Recurrent) and layer.bidirectional and layer.merge_mode == "concat" and wire.index == 0:
        yield "the forward half", slice(0, width // 2)
        yield "the backward half", slice(width // 2, width)
    else:
        yield "", slice(None)


def _together(one: str, other: str) -> str:
    """Two patterns over the same cells: what moves in either."""
    order = (MOVES, SLIGHTLY, UNCLEAR, REST)
    return "".join(next(mark for mark in order if mark in pair) for pair in zip(one, other, strict=True))


def _compared(name: str, expected: str, found: str, meaning: str, kind: Kind = "steps") -> Probe:
    return _probe(name, shown(expected), found, meaning, contradict(expected, found), kind)


def _probe(name: str, expected: str, found: str, meaning: str, differs: bool, kind: Kind) -> Probe:
    return Probe(name, expected, found, differs, meaning if differs else "", kind)


__all__ = ["alone", "one_sample", "one_step", "shapes", "shortened", "which_steps", "zeros"]
