"""A suspect that computes in a shorter format than float32: no replay meets it to the float32 floor, but its errors are that format's.

A shorter format rounds the same numbers at the same places wherever it is used, so that a run of the reference that rounds there makes
errors that go together with the suspect's, number by number. A mistake of the same size does not: its errors have nothing to do with
what rounding does. The measure is the correlation of both errors over all outputs. Kernels that round at other places than this run are
known by their outputs: every number is one of the shorter format, which float32 gives by chance once in thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import place_of
from parity.diagnosis.faults.precision import rounded
from parity.diagnosis.faults.wiring import given
from parity.diagnosis.repair import CallRepair
from parity.diagnosis.replay import Stage, outputs_of
from parity.graph.graph import Node
from parity.judge import LIMIT
from parity.network import Dense
from parity.reference import Float64

TOGETHER = 0.95
"""Errors that go together at least so much are of one origin. Measured: 1.00 for TF32; up to 0.66 for a systematic error of another one."""

_SIZES = (0.5, 2.0)
"""The suspect's errors are within these factors of the emulated ones."""

_MOST = 3.0
"""A suspect whose outputs are numbers of a shorter format is off by no more than so many times what computing in it makes."""

_ENOUGH = 30
"""Fewer numbers than these may be those of a shorter format, or go together, by chance."""

_ALIKE = 0.05
"""Formats whose correlations are no further apart than this are not told apart."""


Extent: TypeAlias = Literal["factors", "stored", "everything", "all but states"]
"""What is rounded: what products of matrices take; what is stored between operations, biases and outputs among it; every value; every value
but the states of recurrent layers, and what they are summed up of, as torch's autocast computes a GRU on the CPU."""

_STATES = ("kept", "added", "h")
"""Ends of the places in the computation at which a GRU sums up its state."""


class Coarse:
    """A run in a shorter format.

    Args:
        kind: of `rounded`.
        extent: what is rounded.
        fine: operations that compute in float32.
    """

    def __init__(self, kind: str, extent: Extent, fine: frozenset[str] = frozenset()) -> None:
        self._kind, self._extent, self._fine = kind, extent, fine

    def is_fine(self, site: str) -> bool:
        """Whether a place in the computation is in an operation that computes in float32."""
        return site in self._fine or any(site.startswith(f"{name}.") for name in self._fine)

    def affine(self, value: Float64, inputs: Float64, matrix: Float64, bias: Float64, site: str) -> Float64:
        """The product of rounded factors."""
        if self.is_fine(site):
            return value
        if inputs.shape[-1] != matrix.shape[0]:
            return self.product(value, site)
        product = rounded(inputs, self._kind) @ rounded(matrix, self._kind)
        if self._extent == "all but states" and site.endswith(".input"):
            product = rounded(
                product, self._kind
            )  # of all steps at once; measured: the bias is added to what is rounded already
        found: Float64 = value + (product - inputs @ matrix)
        if self._extent != "factors":
            found = found + (rounded(bias, self._kind) - bias)
        return self.product(found, site)

    def total(self, value: Float64, squares: Callable[[], Float64], terms: int, site: str) -> Float64:
        """A sum."""
        return self.product(value, site)

    def product(self, value: Float64, site: str) -> Float64:
        """Any value in between."""
        coarse = self._extent == "everything" or (
            self._extent == "all but states" and site.rpartition(".")[2] not in _STATES
        )
        return rounded(value, self._kind) if coarse and not self.is_fine(site) else value

    def kept(self, value: Array) -> Array:
        """An output of the model."""
        fine = self._extent in ("factors", "all but states") or value.dtype.kind != "f"
        return value if fine else rounded(value, self._kind)

    sigmoid = product
    tanh = product

    def smooth(self, value: Float64, site: str, coarse: float = 1.0) -> Float64:
        """The output of any other function."""
        return self.product(value, site)


@dataclass(frozen=True, eq=False)
class CoarseCase(Case):
    """A model that computes in a shorter format.

    Args:
        rounding: what happens to its intermediate values.
    """

    rounding: Coarse | None = None

    def outputs(self) -> dict[str, Array]:
        """What the model gives, computed so."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            found = self.graph.run(self.inputs, self.rounding)
        if self.rounding is None:
            return found
        nodes = {node.name: node.operation.name for node in self.graph.nodes}
        fine = {name for name, wire in self.graph.outputs.items() if self.rounding.is_fine(nodes.get(wire.node, ""))}
        return {name: one if name in fine else self.rounding.kept(one) for name, one in found.items()}


@dataclass(frozen=True, eq=False)
class Precision:
    """What explains errors of the size of a format.

    Args:
        fault: says it; its replay computes in that format.
        formats: those that explain it alike.
        together: correlation of the suspect's errors with those of the replay.
        before: the largest error beside the reference in float64.
        after: the same beside the replay: roundings that fall to the other side.
    """

    fault: Fault
    formats: tuple[str, ...]
    together: float
    before: float
    after: float


_KEPT = " and keeps its states in float32, as torch.autocast does"

_WAYS: tuple[tuple[str, Extent, str], ...] = (
    ("TF32", "factors", "multiplies matrices in TF32"),
    ("TF32 cut", "factors", "multiplies matrices in TF32"),
    ("float16", "stored", "computes in float16"),
    ("float16", "everything", "computes in float16"),
    ("bfloat16", "factors", "multiplies matrices in bfloat16"),
    ("bfloat16", "stored", "computes in bfloat16"),
    ("bfloat16", "everything", "computes in bfloat16"),
    ("float16", "all but states", f"computes in float16{_KEPT}"),
    ("bfloat16", "all but states", f"computes in bfloat16{_KEPT}"),
)
"""Format, what is rounded to it, and the clause; factors alone in float16 are those in TF32."""


def precision_of(stage: Stage) -> Precision | None:
    """The shorter format that a suspect computes in, if its errors are those of one; None if they are not.

    To be asked where no exact replay explains the suspect.

    Args:
        stage: the run that is asked about.
    """
    exact = stage.case.outputs()
    if stage.floors(exact) <= LIMIT:
        return None
    errors = _errors(stage, stage.observed, exact)
    if errors.size < _ENOUGH:
        return None
    found: list[_Emulated] = []
    for part in (_Part(), *_parts(stage.case)):
        for kind, extent, clause in _WAYS:
            if part.fine and extent in ("factors", "all but states"):
                continue
            emulated = outputs_of(_coarse(stage.case, kind, extent, part))
            if emulated is None:
                continue
            own = _errors(stage, emulated, exact)
            together = _correlation(errors, own)
            size = float(np.sqrt(np.mean(errors**2)) / max(np.sqrt(np.mean(own**2)), 1e-300)) if own.size else 0.0
            if together >= TOGETHER and _SIZES[0] <= size <= _SIZES[1]:
                found.append(_Emulated(together, kind, extent, clause + part.words, stage.error(emulated), part))
    if not found:
        return _by_outputs(stage, exact) or _behind_a_head(stage, exact)
    found.sort(key=lambda one: -one.together)
    best = found[0]
    alike = [one for one in found if best.together - one.together <= _ALIKE]
    together, kind, extent, after, part = best.together, best.kind, best.extent, best.after, best.part
    # Where a whole model in that format explains it as well, its parts are not told apart.
    whole = [one for one in alike if not one.part.fine]
    clauses = " or ".join(dict.fromkeys(one.clause for one in whole or alike))
    fault = Fault(
        "precision",
        f"{clauses}: its errors are {together:.0%} those that such rounding makes",
        Place(),
        lambda case: _coarse(case, kind, extent, part),
        (CallRepair("", "mode", _TORCH[kind.removesuffix(" cut")], _KERAS[kind.removesuffix(" cut")]),),
        rank=13,
    )
    formats = tuple(dict.fromkeys(one.kind.removesuffix(" cut") for one in alike))
    return Precision(fault, formats, together, stage.error(exact), after)


@dataclass(frozen=True)
class _Part:
    """A part of a model that computes in float32.

    Args:
        fine: its operations.
        words: the end of a clause.
    """

    fine: frozenset[str] = frozenset()
    words: str = ""


@dataclass(frozen=True)
class _Emulated:
    """A run in a shorter format that makes the suspect's errors."""

    together: float
    kind: str
    extent: Extent
    clause: str
    after: float
    part: _Part


def _parts(case: Case) -> Iterator[_Part]:
    """The ends of a model that people leave in float32: the last layers with weights, and what is behind them."""
    nodes = case.graph.nodes
    weighted = [place for place, node in enumerate(nodes) if _has_weights(node)]
    ends = [weighted[-1] + 1, *weighted[:0:-1][:_MOST_FINE]] if weighted else []
    for begin in ends:
        names = [node.operation.name for node in nodes[begin:] if node.inputs]
        coarse = {node.operation.name for node in nodes[:begin]}
        if names and not coarse & set(names):
            place = place_of(case, names[0])
            yield _Part(frozenset(names), f" up to layer '{place.called or place.layer}', which computes in float32")


_MOST_FINE = 3


def _has_weights(node: Node) -> bool:
    return bool(node.inputs) and any(np.dtype(one.dtype).kind == "f" for one in node.operation.arrays.held.values())


def _by_outputs(stage: Stage, exact: Mapping[str, Array]) -> Precision | None:
    """A suspect all of whose outputs are numbers of a shorter format."""
    shown = {name: one for name, one in stage.observed.items() if one.dtype.kind == "f"}
    kinds = [
        kind
        for kind in ("bfloat16", "float16")
        if shown and all(np.array_equal(rounded(one, kind), one) and np.unique(one).size > 1 for one in shown.values())
    ]
    if not kinds:
        return None
    kind, before = kinds[0], stage.error(exact)
    emulated = {extent: _coarse(stage.case, kind, extent) for extent in _ROUNDED}
    sizes = {extent: _difference(one.outputs(), exact, shown) for extent, one in emulated.items()}
    if not before <= _MOST * max(sizes.values()):
        return None
    extent = min(_ROUNDED, key=lambda one: abs(sizes[one] - before))
    only = stage.error({name: rounded(one, kind) for name, one in exact.items() if name in shown})
    said = f"computes in {kind}: all of its outputs are numbers of that format, and they are off by what computing in it makes"
    if only <= before / 100:
        said = f"rounds its outputs to {kind}: all of them are numbers of that format, and nothing else is off"
    fault = Fault(
        "precision",
        said,
        Place(),
        lambda case: _coarse(case, kind, extent),
        (CallRepair("", "mode", _TORCH[kind], _KERAS[kind]),),
        rank=13,
    )
    together = _correlation(_errors(stage, stage.observed, exact), _errors(stage, emulated[extent].outputs(), exact))
    return Precision(fault, (kind,), together, before, stage.error(emulated[extent].outputs()))


def _behind_a_head(stage: Stage, exact: Mapping[str, Array]) -> Precision | None:
    """A suspect whose last dense layer computes in float32 what numbers of a shorter format give.

    A layer that gives at least as many numbers as it takes tells what it took. Rounded to the format that must give the outputs again;
    numbers of float32 do not: they would move by hundreds of floors.
    """
    head = _head(stage)
    if head is None:
        return None
    name, dense = head
    kernel = np.asarray(dense.kernel, np.float64)
    bias = 0.0 if dense.bias is None else np.asarray(dense.bias, np.float64)
    taken = (np.asarray(stage.observed[name], np.float64) - bias) @ np.linalg.pinv(kernel)
    for kind in ("bfloat16", "float16"):
        again = {name: rounded(taken, kind) @ kernel + bias}
        seen = Stage(stage.case, {name: stage.observed[name]}, stage.floor)
        if taken.size < _ENOUGH or np.unique(taken).size < 2 or seen.floors(again) > LIMIT:
            continue
        part = _Part(frozenset({dense.name}), f" up to layer '{dense.name}', which computes in float32")
        emulated = {extent: _coarse(stage.case, kind, extent, part).outputs() for extent in _ROUNDED}
        sizes = {extent: _difference(one, exact, stage.observed) for extent, one in emulated.items()}
        before = stage.error(exact)
        if not before <= _MOST * max(sizes.values()):
            continue
        extent = min(_ROUNDED, key=lambda one: abs(sizes[one] - before))
        fault = Fault(
            "precision",
            f"computes in {kind}{part.words}: all that this layer takes are numbers of that format, off by what computing in it makes",
            Place(),
            partial(_coarse, kind=kind, extent=extent, part=part),
            (CallRepair("", "mode", _TORCH[kind], _KERAS[kind]),),
            rank=13,
        )
        together = _correlation(_errors(stage, stage.observed, exact), _errors(stage, emulated[extent], exact))
        return Precision(fault, (kind,), together, before, stage.error(emulated[extent]))
    return None


def _head(stage: Stage) -> tuple[str, Dense] | None:
    """The only output and the dense layer that gives it, where its outputs tell its inputs."""
    (name, wire), *others = stage.case.graph.outputs.items()
    node = next((one for one in stage.case.graph.nodes if one.name == wire.node), None)
    if others or node is None or not isinstance(node.operation, Dense) or node.operation.activation != "linear":
        return None
    taken, count = node.operation.held("kernel").shape
    return (name, node.operation) if count >= taken and name in stage.observed else None


_ROUNDED: tuple[Extent, ...] = ("stored", "everything")


def _difference(outputs: Mapping[str, Array], exact: Mapping[str, Array], shown: Mapping[str, Array]) -> float:
    """The largest difference of two runs over the outputs that are shown."""
    return max(float(np.abs(outputs[name] - exact[name]).max(initial=0.0)) for name in shown)


_TORCH = {
    "TF32": "torch.backends.cuda.matmul.allow_tf32 = False\ntorch.backends.cudnn.allow_tf32 = False",
    "float16": "module = module.float()  # and no torch.autocast",
    "bfloat16": "module = module.float()  # and no torch.autocast",
}
_KERAS = {
    "TF32": "tf.config.experimental.enable_tensor_float_32_execution(False)",
    "float16": 'keras.config.set_dtype_policy("float32")  # before the model is made',
    "bfloat16": 'keras.config.set_dtype_policy("float32")  # before the model is made',
}


def _coarse(case: Case, kind: str, extent: Extent, part: _Part = _Part()) -> Case:
    """A case that computes in a shorter format; what goes from there into a part in float32 is stored in it."""
    made = {node.name: node.operation.name for node in case.graph.nodes}
    border = {
        wire: None
        for node in case.graph.nodes
        if node.operation.name in part.fine
        for wire in node.inputs
        if wire is not None and wire.node in made and made[wire.node] not in part.fine
    }
    for wire in border:
        case = given(case, wire, partial(_stored, kind=kind))
    return CoarseCase(case.graph, case.inputs, case.ignored, Coarse(kind, extent, part.fine))


def _stored(x: Array, kind: str) -> Array:
    return rounded(x, kind) if x.dtype.kind == "f" else x


def _errors(stage: Stage, outputs: Mapping[str, Array], exact: Mapping[str, Array]) -> Float64:
    """All errors of the outputs that the suspect shows, where they are comparable."""
    parts = [np.zeros(0)]
    for name in stage.observed:
        ours, right = np.asarray(outputs[name], np.float64), np.asarray(exact.get(name, np.zeros(0)), np.float64)
        if ours.shape != right.shape or np.asarray(exact[name]).dtype.kind != "f":
            return np.zeros(0)
        shown = np.isfinite(ours) & np.isfinite(right)
        if name in stage.case.ignored:
            shown &= ~np.broadcast_to(stage.case.ignored[name], shown.shape)
        parts.append(np.where(shown, ours - right, 0.0).ravel())
    return np.concatenate(parts)


def _correlation(one: Float64, two: Float64) -> float:
    size = float(np.linalg.norm(one) * np.linalg.norm(two)) if one.shape == two.shape else 0.0
    return float(one @ two) / size if size else 0.0


__all__ = ["TOGETHER", "Coarse", "CoarseCase", "Precision", "precision_of"]
