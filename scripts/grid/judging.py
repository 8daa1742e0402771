"""One configuration, converted to both other frameworks: what each conversion is, told from the numbers of the frameworks alone.

The source's own framework is the judge: what it computed (`grid.live`) is compared, value by value, with what the target's framework
computes for the conversion. They agree while they differ by no more than twice `parity.judge.LIMIT` measured floors, the limit of
`parity compare` for two engines.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from einops import rearrange

import parity
from grid.cases import Config
from grid.live import Array, Live, Values
from parity.errors import ParityError, UnsupportedError
from parity.floor import Floor, measure
from parity.frameworks import framework
from parity.judge import LIMIT
from parity.network import Network
from parity.result import Result, State, check_states
from parity.sources import Opened, open_source

Status = Literal["native", "composed", "refused", "needless", "wrong", "crashed"]
EXACT: tuple[Status, ...] = ("native", "composed")
BAD: tuple[Status, ...] = ("needless", "wrong", "crashed")

Converters: TypeAlias = Mapping[str, Callable[[Any], Any]]
CONVERTERS: Converters = {
    "keras": parity.to_keras,
    "torch": parity.to_torch,
    "onnx": parity.to_onnx,
}

UNROLLED = "Keras computes a masked, unrolled backward layer otherwise than a rolled one, and differently on each of its backends"
NO_FLOAT64 = "ONNX Runtime has no float64 LSTM, GRU or RNN"

_REPLICAS = 16
"""As many as wide layers get; for narrow ones fewer than `measure` takes by itself, which widens the floor a little instead."""

_FLOAT64_FLOOR = 2.0**-29
"""Half a unit in the last place of float64, in that of float32."""


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration in one target framework.

    Args:
        target: "keras", "torch" or "onnx".
        status: "native" or "composed" where it is exact; "refused" with a reason; "needless", a refusal of what can be said exactly;
            "wrong" or "crashed".
        reason: why it is composed, refused, wrong or crashed.
        times_floor: the largest difference of the two frameworks at a valid step, in floors; None where nothing was run.
        padding: whether they differ at steps that a mask leaves out, which each framework fills by its own convention.
    """

    target: str
    status: Status
    reason: str = ""
    times_floor: float | None = None
    padding: bool = False

    @property
    def bad(self) -> bool:
        """Whether nothing of the kind may happen."""
        return self.status in BAD


@dataclass(frozen=True, eq=False)
class Piece:
    """One value to compare, by its place among outputs or states: of the source, its floor, and where it is padding, broadcast to it."""

    name: str
    place: int
    source: Array
    floor: Array
    padded: Array


def refusable(config: Config, target: str) -> str | None:
    """Why a configuration may be refused in a target; None where FACTS lists it as expressible, so that it must be exact.

    Example:
        >>> from grid.cases import Config
        >>> refusable(Config("keras", "layer", (("layer", "LSTM"),)), "torch") is None
        True
    """
    unrolled = config.get("unroll") and config.get("mask")
    if unrolled and (config.get("go_backwards") or config.family == "bidirectional"):
        return UNROLLED
    if target == "onnx" and config.get("dtype") == "float64":
        return NO_FLOAT64
    return None


def judged(
    config: Config,
    targets: tuple[str, ...] | None = None,
    converters: Converters = CONVERTERS,
    thorough: bool = False,
) -> tuple[Outcome, ...]:
    """Build a configuration, let its framework compute it, convert it, and compare.

    Args:
        config: of the grid.
        targets: the other two frameworks by default.
        converters: how to convert to each; tests put faulty ones here.
        thorough: whether a conversion that can be called directly, as its users call it, is also read again and run through `parity.run`,
            as those are that cannot: torch's own layers, and ONNX's nodes, take no mask.
    """
    targets = targets or config.targets
    live: Live = _side(config.framework).live(config)
    try:
        opened = open_source(live.source)
        states = named_states(opened.network, live)
        floor = _floor(opened.network, live, states)
        pieces = tuple(_pieces(config, live, opened.network, floor))
    except Exception as error:  # whatever it is, it is this configuration's outcome
        return tuple(_failed(config, target, error, "read: ") for target in targets)
    # The description itself: its float64 reference against the framework it was read from.
    _, own_padding, problem = compared(pieces, values_of(floor.result, opened.network, pieces), LIMIT)
    if problem:
        return tuple(_misread(config, live, opened, target, problem) for target in targets)
    source = Source(config, live, opened, pieces, own_padding)
    return tuple(_judged_in(source, target, converters[target], thorough) for target in targets)


@dataclass(frozen=True, eq=False)
class Source:
    """A configuration that was built, run and read.

    Args:
        own_padding: whether its framework fills steps that a mask leaves out by a convention that no description keeps, such as ONNX
            Runtime's zero state of a sample without any valid step.
    """

    config: Config
    live: Live
    opened: Opened
    pieces: tuple[Piece, ...]
    own_padding: bool


def _judged_in(source: Source, target: str, convert: Callable[[Any], Any], thorough: bool) -> Outcome:
    live, stage = source.live, ""
    try:
        converted = convert(source.opened)
        form = parity.form_of(converted)
        stage = "read again: "
        dtype = "float32" if target == "onnx" else live.dtype
        stage = "called: "
        runs = {"": _side(target).called(converted, live, source.opened.network.bare)}
        if thorough or runs[""] is None:
            stage = "read again: "
            again = open_source(converted, partial=True)
            if (
                again.network.graph is not None
            ):  # code takes no states and no mask from outside; compare runs such a model as a chain
                again = open_source(framework(target).build(source.opened.network))
            stage = "run: "
            states = named_states(again.network, live)
            result = parity.run(again, live.inputs, initial_state=states, mask=live.mask, dtype=dtype)
            runs["by parity.run: "] = values_of(result, again.network, source.pieces, form.native)
    except Exception as error:  # whatever it is, it is this configuration's outcome
        return _failed(source.config, target, error, stage)
    unit = _FLOAT64_FLOOR if dtype == "float64" else 1.0
    found = {name: compared(source.pieces, run, 2 * LIMIT, unit) for name, run in runs.items() if run is not None}
    worst, padding = max(one[0] for one in found.values()), any(one[1] for one in found.values())
    problems = [f"{name}{one[2]}" for name, one in found.items() if one[2]]
    if problems:
        return Outcome(target, "wrong", "; ".join(problems), worst, padding)
    if padding and not form.native and not source.own_padding:
        return Outcome(target, "wrong", "a composition fills masked steps otherwise than its source", worst, padding)
    reason = "; ".join(dict.fromkeys(text.partition(": ")[2] or text for text in form.composed))
    return Outcome(target, "native" if form.native else "composed", reason, worst, padding)


def _misread(config: Config, live: Live, opened: Opened, target: str, problem: str) -> Outcome:
    """A description that computes otherwise than its source; where that is known beforehand, every run has to be refused."""
    try:
        parity.run(opened, live.inputs, initial_state=named_states(opened.network, live), mask=live.mask)
    except UnsupportedError as error:
        return _failed(config, target, error)
    return Outcome(target, "wrong", f"read: {problem}")


def _failed(config: Config, target: str, error: Exception, prefix: str = "") -> Outcome:
    if isinstance(error, UnsupportedError):
        reason = prefix + "; ".join(dict.fromkeys(problem.what for problem in error.problems))
        return Outcome(target, "refused" if refusable(config, target) else "needless", reason)
    words = error.problems[0] if isinstance(error, ParityError) else str(error).strip()
    text = " ".join(str(words).split())
    return Outcome(target, "crashed", f"{prefix}{type(error).__name__}: {text[:300]}{_place(error)}")


def _place(error: Exception) -> str:
    """The file and line of this project that an error came from."""
    places, traceback = [], error.__traceback__
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        if path.parts[-3:-1] and "parity" in path.parts[-3:-1]:
            places.append(f"{path.name}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return f" [{places[-1]}]" if places else ""


@cache
def _side(framework: str) -> Any:
    return importlib.import_module(f"grid.{framework}_side")


# ---- the values of both sides


def named_states(network: Network, live: Live) -> dict[str, State] | None:
    """The initial states of a configuration under the names that a description gives its layers; None for zeros."""
    if live.initial is None:
        return None
    rows = iter(live.initial)
    states = {}
    for layer in network.recurrent:
        own = [next(rows) for _ in layer.spec.directions]
        states[layer.name] = State(*(np.stack(parts) for parts in zip(*own, strict=True)))
    return states


def _floor(network: Network, live: Live, states: dict[str, State] | None) -> Floor:
    given = check_states(network.specs, states, live.inputs.shape[0], "float64")
    return measure(network, live.inputs, given, _REPLICAS, mask=live.mask)


def values_of(result: Result, network: Network, pieces: tuple[Piece, ...], native: bool = True) -> Values:
    """What an engine computed, whatever the framework's own convention: every step, or only the last if the source gave that alone."""
    runs = list(result.layers.values())
    last = runs[-1]
    steps = not any(piece.name.startswith("output") and piece.source.ndim == 2 for piece in pieces)
    if result.outputs:
        outputs = tuple(result.outputs.values())
    elif steps and last.sequence is not None:
        outputs = (rearrange(last.sequence, "batch time direction hidden -> batch time (direction hidden)"),)
    else:
        # A framework's own layer that gives every step is asked for its final state, not for a last step that a mask leaves out.
        own = native and network.recurrent[-1].return_sequences
        ends = last.final.h if last.last is None or own else last.last
        outputs = (rearrange(ends, "direction batch hidden -> batch (direction hidden)"),)
    states = tuple(
        state[index]
        for layer, run in zip(network.recurrent, runs, strict=True)
        for index in range(len(layer.spec.directions))
        for state in run.final.arrays()
    )
    return Values(outputs, states)


def _pieces(config: Config, live: Live, network: Network, floor: Floor) -> Iterator[Piece]:
    """Every value that the source returned, with its floor."""
    first = [Piece("output", 0, shown.array, shown.array, shown.array) for shown in live.outputs[:1]]
    floors = values_of(_as_result(network, floor), network, tuple(first))
    lost = any(not band.comparable.all() for band in floor.bands.values())
    if lost:
        raise ValueError("the floor has grown to the size of the signal: nothing could be told")
    for index, shown in enumerate(live.outputs):
        # A value that the network shows as it is keeps the order in which the framework gives it.
        turned = shown.reverse and not network.shown
        source = shown.array[:, ::-1] if turned else shown.array
        padded = _padded_output(config, live, source)
        yield Piece(f"output {index}", index, source, floors.outputs[min(index, len(floors.outputs) - 1)], padded)
    for index, state in enumerate(live.states):
        if state is not None:
            yield Piece(f"state {index}", index, state, floors.states[index], _empty(live)[:, None])


def _as_result(network: Network, floor: Floor) -> Result:
    """The floors where the values stand."""
    alone = len(network.recurrent) == 1

    def band(name: str, array: Array) -> Array:
        return np.broadcast_to(floor.bands[name].floor, array.shape)

    layers = {}
    for name, run in floor.result.layers.items():
        prefix = "" if alone else f"{name}."
        final = State(*(band(f"{prefix}{key}_n", a) for key, a in zip("hc", run.final.arrays(), strict=False)))
        sequence = None if run.sequence is None else band(f"{prefix}sequence", run.sequence)
        layers[name] = replace(run, final=final, sequence=sequence, last=None)
    outputs = {name: band(f"output {name}", array) for name, array in floor.result.outputs.items()}
    return replace(floor.result, outputs=outputs, layers=layers)


def _empty(live: Live) -> Array:
    """Samples without any valid step, (batch,)."""
    if live.mask is None:
        return np.zeros(len(live.inputs), bool)
    return np.array([not valid.any() for valid in live.mask])


def _padded_output(config: Config, live: Live, output: Array) -> Array:
    """Where a mask from outside leaves an output to convention."""
    if live.mask is None:
        return np.zeros((1,) * output.ndim, bool)
    if output.ndim == 3:
        return ~live.mask[..., None]
    ends = ~live.mask[:, 0 if config.get("go_backwards") else -1]
    zeroed = ends if config.get("zero_output_for_mask") else np.zeros_like(ends)
    return (zeroed | _empty(live))[:, None]


def compared(pieces: tuple[Piece, ...], found: Values, limit: float, unit: float = 1.0) -> tuple[float, bool, str]:
    """The largest difference at valid steps in floors, whether padding differs, and what is wrong in words.

    Args:
        pieces: of the source.
        found: of the other side.
        limit: in floors.
        unit: what the measured floors, those of float32, are multiplied with.
    """
    worst, padding, problems = 0.0, False, []
    outputs = [piece for piece in pieces if piece.name.startswith("output")]
    states = [piece for piece in pieces if piece.name.startswith("state")]
    for group, arrays in ((outputs, found.outputs), (states, found.states)):
        for piece in group:
            array = arrays[piece.place] if piece.place < len(arrays) else np.empty(0)
            if array.shape != piece.source.shape:
                problems.append(f"{piece.name} has shape {array.shape}, not {piece.source.shape}")
                continue
            error = np.abs(array.astype(np.float64) - piece.source.astype(np.float64))
            ratio = np.where(np.isfinite(error), error / np.maximum(unit * piece.floor, sys.float_info.min), np.inf)
            padded = np.broadcast_to(piece.padded, ratio.shape)
            own = float(np.where(padded, 0.0, ratio).max(initial=0.0))
            padding |= bool((np.where(padded, ratio, 0.0) > limit).any())
            worst = max(worst, own)
            if own > limit:
                problems.append(
                    f"{piece.name} differs by {float(np.where(padded, 0.0, error).max()):.2g}, {own:.2g} floors"
                )
    return worst, padding, "; ".join(problems)
