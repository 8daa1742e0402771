"""Whether a graph computes what its module does at other lengths than those of the example, too.

A trace follows the branch that the example takes; `if x.shape[0] == 1` leaves no sign in it. So both are run, at small lengths and
at those that break what the trace compared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from parity.frameworks.torch.whole.calling import call
from parity.frameworks.torch.whole.examples import float_type
from parity.frameworks.torch.whole.naming import axis_words
from parity.frameworks.torch.whole.tracing import Traced, user_inputs
from parity.graph import Graph
from parity.graph.inputs import random_graph_inputs, step_counts
from parity.graph.reading_notes import length_limits
from parity.recurrent import Array

Lengths: TypeAlias = dict[str, int]
Found: TypeAlias = Literal["same", "other", "graph alone", "neither"]

_BATCHES, _TIMES = (1, 2, 3, 4), (1, 2, 3, 4, 5, 8)
_SMALL, _FAR, _MOST_BROKEN = (6, 9, 12), 64, 3
_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-3}
_ROUGH = 0.05
"""A float32 module has tables in float32 also where it computes in float64; half precision is rounded coarser still."""


@dataclass(frozen=True)
class Differences:
    """What `differences` found.

    Args:
        limits: "time at least 2": the module refuses shorter ones, or computes something else there.
        words: lengths by which the module decides, each with where it computes something else: "time 3, 5".
    """

    limits: tuple[str, ...] = ()
    words: dict[str, str] = field(default_factory=dict)


def differences(module: nn.Module, graph: Graph, traced: Traced) -> Differences:
    """Where a graph computes something else than its module, at small lengths and at those that a trace's comparisons point to.

    Lengths outside of the graph's own limits are left out, as are those at which neither runs. Nothing is found where the two cannot
    be compared at all: the module does not run on random numbers, or is too rough.
    """
    both = _Both(module, graph, traced)
    base = both.base()
    if base is None:
        return Differences()
    limits: list[str] = []
    words: dict[str, str] = {}
    for word in graph.words:
        found = {length: both.compared({**base, word: length}) for length in both.tried(word, base)}
        found[base[word]] = "same"
        odd = sorted(length for length, one in found.items() if one == "other")
        alone = sorted(length for length, one in found.items() if one == "graph alone")
        fine = sorted(length for length, one in found.items() if one == "same")
        refused = alone if word == "batch" else sorted(odd + alone)
        if refused and refused[-1] < fine[0]:
            limits.append(f"{word} at least {both.edge(base, word, refused[-1], fine[0])}")
            odd = odd if word == "batch" else []
        elif alone and alone[0] > fine[-1]:
            limits.append(f"{word} at most {both.edge(base, word, alone[0], fine[-1])}")
        if odd:
            words[word] = f"{word} {', '.join(map(str, odd))}"
    if not words:
        words = both.together(base, limits)
    return Differences(tuple(limits), words)


class _Both:
    """A module and its graph, run on the same inputs."""

    def __init__(self, module: nn.Module, graph: Graph, traced: Traced) -> None:
        self._graph, self._traced = graph, traced
        self._limits = length_limits(graph)
        self._runs = list(_runs(module))
        self._run = self._runs[-1]
        self._known: dict[tuple[int, ...], Found] = {}
        words = axis_words(traced)
        self._symbols = {symbol: word for symbol, word in words.items() if word in graph.words}
        self._example = {
            words[length]: real
            for axes, tensor in zip(traced.axes, traced.example.tensors, strict=True)
            for length, real in zip(axes, tensor.shape, strict=True)
            if not isinstance(length, int)
        }
        self._guards = _guards(traced)

    def base(self) -> Lengths | None:
        """Lengths at which both agree: small ones, if the trace compared nothing that they break, else the example's."""
        others = [word for word in self._graph.words if word != "batch"]
        small = [{"batch": 2, **{word: n + i for i, word in enumerate(others)}} for n in _SMALL]
        small += [{**self._example, "batch": 2}]
        for given in (*small, self._example):
            lengths = {word: given[word] for word in self._graph.words}
            if not self._within(lengths) or self._broken(lengths):
                continue
            for run in self._runs:
                self._run = run
                self._known.clear()
                if self.compared(lengths) == "same":
                    return lengths
        return None

    def tried(self, word: str, base: Lengths) -> list[int]:
        """Lengths of a word that may show something."""
        own = self._example[word]
        usual = _BATCHES if word == "batch" else (*_TIMES, base[word] - 1, base[word] + 1)
        usual = (*usual, own + 1) if own <= _FAR else usual
        others = {one: length for one, length in base.items() if one != word}
        undecided = [one for one in dict.fromkeys(self._guards_at(others)) if getattr(one, "free_symbols", ())]
        every = [n for n in range(1, max(_FAR, own) + 1) if self._broken({word: n}, undecided)]
        near = sorted(every, key=lambda n: abs(n - own))[:_MOST_BROKEN]
        wanted = {*usual, *every[:1], *near}
        return [n for n in sorted(wanted) if n > 0 and self._within({**base, word: n})]

    def together(self, base: Lengths, limits: Sequence[str]) -> dict[str, str]:
        """Where all lengths at once show what none does alone; blamed on the times, if there are any."""
        least = {one.split(" at least ")[0]: int(one.split(" at least ")[1]) for one in limits if " at least " in one}
        for batch, time in ((1, 1), (1, 2), (3, 3)):
            lengths = {word: max(batch if word == "batch" else time, least.get(word, 1)) for word in base}
            if len(base) > 1 and self._within(lengths) and self.compared(lengths) == "other":
                said = ", ".join(f"{word} {length}" for word, length in lengths.items())
                return dict.fromkeys([word for word in base if word != "batch"] or base, said)
        return {}

    def edge(self, base: Lengths, word: str, bad: int, good: int) -> int:
        """The length nearest to a bad one from which on they agree."""
        while abs(good - bad) > 1:
            middle = (good + bad) // 2
            if self.compared({**base, word: middle}) in ("same", "neither"):
                good = middle
            else:
                bad = middle
        return good

    def compared(self, lengths: Lengths) -> Found:
        """Whether both compute the same."""
        key = tuple(lengths.values())
        if key not in self._known:
            self._known[key] = self._compared(lengths)
        return self._known[key]

    def _compared(self, lengths: Lengths) -> Found:
        run, tolerance = self._run
        draws = list(_draws(self._graph, self._traced, lengths))
        for inputs in draws:
            try:
                wanted = run(self._graph, inputs)
            except Exception:  # the module's own: it takes no such lengths, or no such numbers
                continue
            found = self._computed(inputs)
            return "same" if found is not None and self._alike(found, wanted, tolerance) else "other"
        found = self._computed(draws[0])
        empty = found is None or any(0 in array.shape for array in found.values())
        return "neither" if empty else "graph alone"

    def _computed(self, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        try:
            with np.errstate(all="ignore"):
                return self._graph.run(inputs)
        except Exception:
            return None

    def _alike(self, found: Mapping[str, Array], wanted: Mapping[str, Array], tolerance: float) -> bool:
        for name, array in wanted.items():
            own = found[name]
            if own.shape != array.shape:
                return False
            valid = np.isfinite(array)
            scale = max(1.0, float(np.abs(array[valid], dtype=np.float64).max(initial=0)))
            close = np.abs(own[valid] - array[valid].astype(np.float64)) <= tolerance * scale
            if not close.all():
                return False
        return True

    def _within(self, lengths: Lengths) -> bool:
        return all(
            low <= lengths.get(word, low) and (high is None or lengths.get(word, low) <= high)
            for word, (low, high) in self._limits.items()
        )

    def _broken(self, lengths: Lengths, guards: Sequence[Any] | None = None) -> bool:
        """Whether something that the trace compared is otherwise at these lengths."""
        return any(one == False for one in self._guards_at(lengths, guards))  # noqa: E712

    def _guards_at(self, lengths: Lengths, guards: Sequence[Any] | None = None) -> list[Any]:
        """What the trace compared, with these lengths put in; the lengths of other words stay open."""
        values = {symbol: lengths[word] for symbol, word in self._symbols.items() if word in lengths}
        return [_put_in(one, values) for one in (self._guards if guards is None else guards)]


def _put_in(guard: Any, values: Mapping[Any, int]) -> Any:
    try:
        return guard.subs(values)
    except ZeroDivisionError:  # a remainder of nothing
        return False


def _runs(module: nn.Module) -> Iterator[tuple[Callable[[Graph, Mapping[str, Array]], dict[str, Array]], float]]:
    """Ways to run a module, with how far it is off: in float64, and as it is where it insists on its own type."""
    own = float_type(module)
    rough = _TOLERANCE.get(own, _ROUGH)
    try:
        double = copy.deepcopy(module).double()
    except Exception:  # a module that cannot be copied
        pass
    else:
        yield (lambda graph, inputs: call(double, graph, inputs, dtype="float64")), rough
    if own == torch.float32:
        yield (lambda graph, inputs: call(module, graph, inputs)), rough


def _guards(traced: Traced) -> list[Any]:
    """What the trace compared lengths with, as expressions."""
    sizes = [
        size for node in user_inputs(traced.program) for size in node.meta["val"].shape if not isinstance(size, int)
    ]
    if not sizes:
        return []
    found = dict.fromkeys(guard.expr for guard in getattr(sizes[0].node.shape_env, "guards", ()))
    return [one for one in found if one.free_symbols]


def _draws(graph: Graph, traced: Traced, lengths: Lengths) -> Iterator[dict[str, Array]]:
    """Random inputs: with integers that may be numbers of steps first; further ones if the module does not take these."""
    steps = min((length for word, length in lengths.items() if word != "batch"), default=1)
    drawn, counted = random_graph_inputs(graph, lengths), step_counts(graph, lengths)
    for attempt in range(3):
        random = np.random.default_rng(attempt)
        found = dict(drawn)
        for one, example in zip(graph.inputs, traced.example.tensors, strict=True):
            shape = drawn[one.name].shape
            if one.name in counted and attempt == 0:
                continue
            if one.dtype == "bool" and attempt:
                found[one.name] = np.full(shape, attempt == 1)
            elif one.dtype == "int64" and one.below is None:
                if len(shape) == 1 and attempt != 1:
                    found[one.name] = np.maximum(1, steps - np.arange(shape[0]))
                else:
                    low, high = int(example.min()), int(example.max())
                    found[one.name] = random.integers(low, high + 1, shape)
        yield found


__all__ = ["Differences", "differences"]
