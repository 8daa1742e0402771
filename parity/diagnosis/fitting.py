"""Which of the right model's outputs an array is: told by its name, else by its shape, where that leaves no choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from parity.deferred import Array
from parity.diagnosis.case import Case
from parity.errors import Problem, ShapeError
from parity.graph.lengths import axes_of
from parity.graph.operations.picking import Select
from parity.graph.operations.shaping import ExpandDims, Squeeze, Transpose
from parity.reference import Exact

Step = Select | Squeeze | ExpandDims | Transpose


@dataclass(frozen=True)
class Expected:
    """An output of the right model.

    Args:
        name, shape: of the output.
        axes: what its axes are, "batch" and "time" among them.
        state: "h" or "c" for a final state of a layer by itself.
        exchanged: the shape that it has where batch and time are taken for each other.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[int | str, ...] = ()
    state: str = ""
    exchanged: tuple[int, ...] = ()

    @property
    def layer(self) -> str:
        """Of a final state the layer that has it."""
        return self.name.rpartition(".")[0]

    def __str__(self) -> str:
        return f"{self.name} {self.shape}"


@dataclass(frozen=True)
class Given:
    """An array that was given.

    Args:
        name: "" for none.
        shape: its shape.
    """

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.shape}".strip()


@dataclass(frozen=True, eq=False)
class Taken:
    """How an output of the right model is had from what was given.

    Args:
        place: of the array among those that were given.
        steps: operations on it, one after the other.
        last: whether it is the last step of the right model's output alone.
        exchanged: whether it has the lengths of batch and time in each other's place.
        note: what was assumed; "" for nothing.
    """

    place: int
    steps: tuple[Step, ...] = ()
    last: bool = False
    exchanged: bool = False
    note: str = ""

    def of(self, arrays: Sequence[Array]) -> Array:
        """The array, in the axes of the right model's output."""
        found = arrays[self.place]
        for step in self.steps:
            (found,) = step.compute(found, rounding=Exact())
        return found


@dataclass(frozen=True, eq=False)
class Fit:
    """Every output of the right model that was given.

    Args:
        taken: by its name, in the right model's order.
        notes: what was assumed.
    """

    taken: dict[str, Taken]
    notes: tuple[str, ...] = ()

    def arrays(self, given: Sequence[Array]) -> dict[str, Array]:
        """The outputs that were given, by the right model's names."""
        return {name: one.of(given) for name, one in self.taken.items()}

    def case(self, case: Case) -> Case:
        """The right model with the outputs that were given: of some the last step alone."""
        for name, one in self.taken.items():
            if one.last:
                case = case.with_output(name, Select(f"{name}[:, -1]", 1, -1))
        return case


def expected_of(case: Case) -> list[Expected]:
    """The outputs of the right model on the inputs of a case.

    Args:
        case: the right model.
    """
    axes, lengths, fixed = axes_of(case.graph), _lengths(case), _fixed_steps(case)
    other = {"batch": lengths.get("time", fixed), "time": lengths.get("batch")}
    found = []
    for name, array in case.outputs().items():
        state = name[-1] if name.endswith(("state_h", "state_c")) and "." in name else ""
        words = axes.get(case.graph.outputs[name], ())
        exchanged = tuple(other.get(str(word)) or length for word, length in zip(words, array.shape, strict=False))
        if fixed and array.shape[1:2] == (fixed,):
            exchanged = (fixed, len(array), *array.shape[2:])
        found.append(Expected(name, array.shape, words, state, exchanged))
    return found


def _lengths(case: Case) -> dict[str, int]:
    """Of the words in the inputs' shapes."""
    shapes = {one.name: one.shape for one in case.graph.inputs}
    pairs = [pair for name, array in case.inputs.items() for pair in zip(shapes[name], array.shape, strict=False)]
    return {word: length for word, length in pairs if isinstance(word, str)}


def _fixed_steps(case: Case) -> int:
    """Of a model that insists on a number of steps, that number; 0 where its inputs have none."""
    for one in case.graph.inputs:
        steps = one.shape[1:2] if len(one.shape) == _WITH_STEPS[one.dtype == "int64"] else ()
        if one.shape[:1] == ("batch",) and steps and isinstance(steps[0], int):
            return steps[0]
    return 0


_WITH_STEPS = {False: 3, True: 2}
"""Axes of an input that has steps: of numbers, and of integers."""


def fitted(expected: Sequence[Expected], given: Sequence[Given], label: str, live: bool) -> Fit:
    """Lay what was given onto what is expected.

    Args:
        expected: the right model's outputs.
        given: arrays with their names, as far as they have such.
        label: what gave them.
        live: whether they come from a suspect that can be run. What it gives beside, and in another shape, is its own; of a recording
            every array has to be one of the outputs, perhaps with its axes in another order, or its last step alone.

    Raises:
        ShapeError: an array that is none of them, or may be several.

    Example:
        >>> right = [Expected("output", (4, 7, 5)), Expected("lstm.state_h", (4, 5), (), "h")]
        >>> fit = fitted(right, [Given("", (4, 7, 5)), Given("", (1, 4, 5))], "port", live=True)
        >>> list(fit.taken)
        ['output', 'lstm.state_h']
    """
    search = _Search(list(expected), label, live, [one.shape for one in given])
    names = {one.name for one in expected}
    unnamed = []
    for place, one in enumerate(given):
        if one.name in names:
            search.named(place, one)
        else:
            unnamed.append((place, one))
    rest = [(place, one) for place, one in unnamed if not search.placed(place, one)]
    if rest and live and len(given) == len(expected):
        for place, _ in rest:
            search.taken.setdefault(expected[place].name, Taken(place))
        rest = [(place, one) for place, one in rest if not any(t.place == place for t in search.taken.values())]
    if not search.taken or (rest and not live):
        raise ShapeError(list(_unknown([one for _, one in rest], expected, label)))
    places = [
        search.taken[name].place
        for name in search.order
        if name in search.taken and not given[search.taken[name].place].name
    ]
    if places != sorted(places):
        search.notes.append(
            f"{label} gives its outputs in another order than the reference: they were told by their shapes"
        )
    for _, one in rest:
        search.notes.append(f"{label} also gives {one}, which the reference does not: it was left out")
    return search.fit()


def _unknown(rest: Sequence[Given], expected: Sequence[Expected], label: str) -> Iterator[Problem]:
    known = "; ".join(map(str, expected))
    remedy = f"record what the reference gives, and name several: {', '.join(one.name for one in expected)}"
    for one in rest or [Given("", ())]:
        what = "an output of another shape than any of the reference's" if rest else "no outputs"
        yield Problem(what, label, known, str(one) if rest else "none", remedy)


@dataclass(eq=False)
class _Search:
    """Outputs that are still to be found, and what was."""

    rest: list[Expected]
    label: str
    live: bool
    shapes: list[tuple[int, ...]]
    taken: dict[str, Taken] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = [one.name for one in self.rest]

    def fit(self) -> Fit:
        """What was found."""
        whole = {name: one for name, one in self.taken.items() if not one.exchanged} or self.taken
        aside = [name for name in self.order if name in self.taken and name not in whole]
        notes = dict.fromkeys([*self.notes, *(one.note for one in whole.values() if one.note)])
        if aside:
            said = f"{' and '.join(aside)} of {self.label} has the steps where the samples belong: it was left out, the rest tells why"
            notes[said] = None
        for name, one in whole.items():
            if one.exchanged:
                notes[
                    f"'{name}' of {self.label} has as many rows as the inputs have steps, where one for every sample belongs"
                ] = None
        return Fit({name: whole[name] for name in self.order if name in whole}, tuple(notes))

    def take(self, one: Expected, way: Taken) -> bool:
        """Note that an output was found."""
        self.taken[one.name] = way
        self.rest.remove(one)
        return True

    def named(self, place: int, given: Given) -> None:
        """An array that has the name of an output."""
        one = next(one for one in self.rest if one.name == given.name)
        way = self._way(place, given, one)
        if way is None and not self.live:
            raise ShapeError(list(_unknown([given], [one], self.label)))
        self.take(one, way or Taken(place))

    def placed(self, place: int, given: Given) -> bool:
        """Find the output that an array without such a name is."""
        alike = [one for one in self.rest if one.shape == given.shape]
        if alike:
            one = self._chosen(alike, given)
            note = f"the array {given} was taken as '{one.name}'" if len(alike) > 1 or given.name else ""
            return self.take(one, Taken(place, note="" if self.live else note))
        if self._stacked(place, given):
            return True
        for one in self.rest:
            way = self._way(place, given, one)
            if way is not None:
                return self.take(one, way)
        return False

    def _chosen(self, alike: Sequence[Expected], given: Given) -> Expected:
        """Of outputs of one shape the first; of the final states of several layers that of the last one.

        Raises:
            ShapeError: final states of two directions.
        """
        states = [one for one in alike if one.state]
        if len(states) < len(alike) or len(states) == 1:
            return alike[0]
        if any(one.name in self.taken for one in states) or self.shapes.count(given.shape) >= len(states):
            return alike[0]
        last = [one for one in states if one.layer == states[-1].layer and one.state == "h"]
        if len(last) > 1:
            remedy = f"name it: {', '.join(one.name for one in states)}"
            names = "; ".join(map(str, states))
            raise ShapeError("an output that may be several of the reference's", self.label, names, str(given), remedy)
        return last[0] if last else alike[0]

    def _stacked(self, place: int, given: Given) -> bool:
        """Final states of all layers and directions in one array, (layers * directions, batch, features), as torch's h_n and c_n."""
        for kind in ("h", "c"):
            states = [one for one in self.rest if one.state == kind]
            if not states:
                continue
            count, shape = len(states), states[0].shape
            whole = given.shape[: len(given.shape) - len(shape)]
            sizes = shape, states[0].exchanged
            alike = all(one.shape == shape for one in states) and given.shape[len(whole) :] in sizes
            if not alike or len(whole) not in (1, 2) or _size(whole) != count:
                return False
            for number, one in enumerate(states):
                places = (number,) if len(whole) == 1 else divmod(number, whole[1])
                note = (
                    ""
                    if self.live or count == 1
                    else f"the array {given} was taken as the final {kind} of every layer and direction"
                )
                turned = given.shape[len(whole) :] != shape
                steps = tuple(Select("row", 0, at) for at in places)
                self.take(one, Taken(place, steps, exchanged=turned, note=note))
            return True
        return False

    def _way(self, place: int, given: Given, one: Expected) -> Taken | None:
        """How an output is had from an array of another shape; None where it cannot be."""
        if given.shape in (one.shape, one.exchanged) and (
            given.shape == one.shape or one.exchanged[:2] != one.shape[1::-1]
        ):
            return Taken(place, exchanged=given.shape != one.shape)
        said = f"'{one.name}' of {self.label}"
        for axis, length in enumerate(given.shape):
            if length == 1 and given.shape[:axis] + given.shape[axis + 1 :] == one.shape:
                note = (
                    ""
                    if one.state
                    else f"{said} is {given.shape} where {one.shape} belongs: compared without the axis of length 1"
                )
                return Taken(place, (Squeeze("squeezed", (axis,)),), note=note)
        for axis, length in enumerate(one.shape):
            if length == 1 and one.shape[:axis] + one.shape[axis + 1 :] == given.shape:
                note = f"{said} is {given.shape} where {one.shape} belongs: compared with an axis of length 1 more"
                return Taken(place, (ExpandDims("expanded", (axis,)),), note=note)
        return None if self.live else self._recorded_way(place, given, one, said)

    def _recorded_way(self, place: int, given: Given, one: Expected, said: str) -> Taken | None:
        """The ways in which people record: time first, or the last step alone."""
        if one.axes[:1] != ("batch",) or not (len(one.shape) > _MOST_WITHOUT_STEPS or one.axes[1:2] == ("time",)):
            return None
        if given.shape == (one.shape[1], one.shape[0], *one.shape[2:]):
            order = (1, 0, *range(2, len(one.shape)))
            note = f"{said} is {given.shape} where {one.shape} belongs: it was taken to be recorded (time, batch, ...), and transposed"
            return Taken(place, (Transpose("transposed", order),), note=note)
        if given.shape == (one.shape[0], *one.shape[2:]):
            note = f"{said} is {given.shape} where {one.shape} belongs: it was taken to be the last step, output[:, -1]"
            return Taken(place, last=True, note=note)
        if given.shape == (one.shape[0], 1, *one.shape[2:]):
            note = (
                f"{said} is {given.shape} where {one.shape} belongs: it was taken to be the last step, output[:, -1:]"
            )
            return Taken(place, (Squeeze("squeezed", (1,)),), last=True, note=note)
        return None


_MOST_WITHOUT_STEPS = 2
"""An output of more axes than these has steps, also where the model insists on their number."""


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def under_names(case: Case, own: Case, fit: Fit) -> Case:
    """A suspect as it was read, with the outputs of the right model.

    Args:
        case: the right model.
        own: the suspect, with its own outputs.
        fit: which of them are the right model's.
    """
    wires, outputs = list(own.graph.outputs.values()), {}
    for name, taken in fit.taken.items():
        key = f"{name} of the suspect"
        made = replace(own, graph=replace(own.graph, outputs={**own.graph.outputs, key: wires[taken.place]}))
        for number, step in enumerate(taken.steps):
            made = made.with_output(key, replace(step, name=f"{key} {number}"))
        outputs[name] = made.graph.outputs[key]
        own = made
    return replace(own, graph=replace(own.graph, outputs=outputs), ignored=case.ignored)


__all__ = ["Expected", "Fit", "Given", "Taken", "expected_of", "fitted", "under_names"]
