"""Whether steps that a mask leaves out are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from parity.deferred import Array
from parity.diagnosis.probes.asking import Asked, Outputs, first_of, other_than
from parity.diagnosis.probes.patterns import MOVES, REST, SLIGHTLY, UNCLEAR, contradict
from parity.diagnosis.probes.probe import Probe
from parity.floor import Band
from parity.graph.chains import MASK
from parity.graph.inputs import masked_inputs

_LOOKED = "looks at padded steps: its mask is ignored, or lost on the way"


def padded_steps(asked: Asked) -> Iterator[Probe]:
    """What stands at padded steps is changed; where the model makes its mask itself, they are cut off."""
    if asked.steps < 3:
        return
    valid = asked.steps - asked.steps // 3
    if MASK in asked.case.inputs:
        yield from _changed(asked, valid)
    elif masked_inputs(asked.case.graph):
        yield from _cut_off(asked, valid)


def _changed(asked: Asked, valid: int) -> Iterator[Probe]:
    name = asked.case.graph.inputs[0].name
    one, mask = asked.case.graph.inputs[0], np.ones_like(asked.case.inputs[MASK])
    mask[:, valid:] = False
    x = asked.case.inputs[name]
    other = x.copy()
    other[:, valid:] = other_than(x[:, valid:], one.below)
    first = asked.again({MASK: mask})
    second = asked.again({MASK: mask, name: other})
    title = "other numbers at padded steps: what moves before them and at the end"
    yield from _between(asked, first, second, valid, title)


def _cut_off(asked: Asked, valid: int) -> Iterator[Probe]:
    inputs = dict(asked.case.inputs)
    for name, mark in masked_inputs(asked.case.graph).items():
        inputs[name] = inputs[name].copy()
        inputs[name][:, valid:] = mark
    padded = asked.again(inputs)
    short = asked.again(first_of(asked.case, {"time": valid}, inputs))
    title = "padded steps cut off: what moves before them and at the end"
    yield from _between(asked, padded, short, valid, title)


def _between(
    asked: Asked, first: tuple[Outputs, Outputs] | str, second: tuple[Outputs, Outputs] | str, valid: int, title: str
) -> Iterator[Probe]:
    """What moves from one run to another, at valid steps and in outputs without steps."""
    if isinstance(first, str) or isinstance(second, str):
        return
    one = replace(asked, right=_valid(asked, first[0], valid), own=_valid(asked, first[1], valid))
    cut = _valid(asked, second[0], valid), _valid(asked, second[1], valid)
    expected = found = REST
    for name in asked.alike:
        if one.right[name].shape != cut[0][name].shape or one.own[name].shape != cut[1][name].shape:
            continue
        floor = _valid(asked, {name: asked.bands[name].reference}, valid)[name]
        here = replace(one, bands={name: _first_steps(asked, name, floor)})
        right, own = here.patterns(cut, name, lambda array: array[None])
        expected, found = _worse(expected, right), _worse(found, own)
    words = {REST: "nothing", MOVES: "it does"}
    differs = contradict(expected, found)
    meaning = _LOOKED if found == MOVES else "does not look at padded steps, where the right model does"
    expected, found = (words.get(mark, "a little") for mark in (expected, found))
    yield Probe(title, expected, found, differs, meaning if differs else "", "padding")


def _valid(asked: Asked, outputs: Outputs, valid: int) -> Outputs:
    """The valid steps of outputs that have steps."""
    return {
        name: array if (axis := asked.axis(name, "time")) is None else _first(array, axis, valid)
        for name, array in outputs.items()
    }


def _first(array: Array, axis: int, count: int) -> Array:
    return array.take(range(min(count, array.shape[axis])), axis=axis)


def _first_steps(asked: Asked, name: str, reference: Array) -> Band:
    band, axis = asked.bands[name], asked.axis(name, "time")
    if axis is None:
        return band
    count = reference.shape[axis]
    return replace(
        band,
        reference=reference,
        floor=_first(band.floor, axis, count),
        comparable=_first(band.comparable, axis, count),
    )


def _worse(one: str, other: str) -> str:
    return max(one, other, key=[REST, UNCLEAR, SLIGHTLY, MOVES].index)


__all__ = ["padded_steps"]
