"""The cells of Keras's recurrent layers: configurations read and written, the weights of each. Imports no framework.

Beside `LSTMCell`, `GRUCell` and `SimpleRNNCell` of Keras there is one of parity's own (`parity.frameworks.keras.layers.RecurrentCell`) for
what they cannot say. It keeps its weights in canonical form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.cell import Cell
from parity.deferred import Stored
from parity.errors import REGISTER, FormatError, Problem, UnsupportedError
from parity.functions import FUNCTIONS, Function
from parity.layouts import (
    CANONICAL_AXES,
    KINDS,
    SLOTS,
    Kind,
    Layout,
    keras_layout,
)
from parity.network.keras.chain import class_name_of, field, name_of, size_of, where_of
from parity.network.keras.options import (
    CELL_KIND_OF,
    CELLS,
    OWN_CELL,
    WRITTEN_CELLS,
    WRITTEN_LAYERS,
    Config,
    check_options,
    is_own,
    plain,
    shown,
)
from parity.network.keras.stored import Rearranged, held
from parity.network.keras.written import function_of
from parity.recurrent import RecurrentSpec, Weights, tensor_shape, unpack


@dataclass(frozen=True)
class Reading:
    """What the readers of one model share.

    Args:
        problems: what cannot be kept, collected until all is read.
        hard_sigmoid_of_keras_2: whether "hard_sigmoid" means 0.2 x + 0.5, as it did before Keras 3.
    """

    problems: list[Problem]
    hard_sigmoid_of_keras_2: bool = False


@dataclass(frozen=True)
class CellPlan:
    """A cell whose options are known and whose weights are not read yet.

    Args:
        name, where: of the cell, or of the layer that has it.
        kind, units, cell, use_bias: what it computes.
        projection_size, peepholes: which only parity's cells have.
        own: whether it is parity's own, which keeps its weights in canonical form.
        dropout, recurrent_dropout: inert at inference.
        two_biases: whether an LSTM has one bias of the input and one of the recurrence, as cuDNN keeps them.
    """

    name: str
    where: str
    kind: Kind
    units: int
    cell: Cell
    use_bias: bool = True
    projection_size: int | None = None
    peepholes: bool = False
    own: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    two_biases: bool = False

    @property
    def layout(self) -> Layout:
        """Where Keras keeps its gates, axes and biases."""
        return keras_layout(self.kind, self.cell.reset_after, self.two_biases)

    @property
    def output_size(self) -> int:
        """Features of its h."""
        return self.projection_size or self.units

    def spec(self, input_size: int) -> RecurrentSpec:
        """Its kind and sizes."""
        return RecurrentSpec(self.kind, input_size, self.units, projection_size=self.projection_size)

    def shapes(self, input_size: int) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every weight, in Keras's order."""
        spec = self.spec(input_size)
        if self.own:
            members = own_members(self.use_bias, self.peepholes, self.projection_size)
            return [(member, spec.shape(member)) for member in members]
        tensors = self.layout.tensors
        found = [(t.name, tensor_shape(spec, t, 1)) for t in tensors if self.use_bias or t.name != "bias"]
        found += [("peephole", spec.shape("peepholes"))] if self.peepholes else []
        return [*found, *([("projector", (self.units, self.projection_size))] if self.projection_size else [])]

    def weights(self, input_size: int, arrays: Sequence[Stored]) -> Weights:
        """Its weights, from arrays in the order of `shapes`."""
        names = [name for name, _ in self.shapes(input_size)]
        named = dict(zip(names, arrays, strict=True))
        if self.own:
            return Weights(**{name: held(array, self.where) for name, array in named.items()})
        more = {name: held(named.pop(name), self.where) for name in ("peephole", "projector") if name in named}
        weights = unpack(self.layout, self.spec(input_size), named)[0]
        if "peephole" in more:
            weights = weights.with_held(peepholes=more["peephole"])
        return weights.with_held(projection=_turned(more["projector"])) if "projector" in more else weights


def _turned(matrix: Any) -> Any:
    """A matrix with its axes in the other order, a large one when it is asked for."""
    if isinstance(matrix, np.ndarray):
        return np.ascontiguousarray(matrix.T)
    return Rearranged(matrix.shape[::-1], matrix.dtype, lambda: np.ascontiguousarray(np.asarray(matrix[()]).T))


def own_members(use_bias: bool, peepholes: bool, projection_size: int | None) -> list[str]:
    """The canonical arrays that parity's own cell keeps, in order.

    Example:
        >>> own_members(use_bias=False, peepholes=False, projection_size=2)
        ['kernel', 'recurrent', 'projection']
    """
    absent = {
        "bias_input": not use_bias,
        "bias_recurrent": not use_bias,
        "peepholes": not peepholes,
        "projection": not projection_size,
    }
    return [member for member in CANONICAL_AXES if not absent.get(member)]


WRITTEN_CLASSES = (*WRITTEN_LAYERS, *WRITTEN_CELLS)
"""Classes in the modules that parity writes, registered in Keras as parity's; under another package they may be anything."""

WRITTEN = f"if parity has written the class: give parity the model that the code was converted from; else {REGISTER}"


def described(serialized: Config) -> str:
    """A class that is not known, in the words of a message.

    Example:
        >>> described({"class_name": "Squash", "module": "", "registered_name": "mine>Squash"})
        'Squash, registered as mine>Squash'
    """
    module, registered = serialized.get("module"), serialized.get("registered_name")
    home = f" of module {module}" if module else ""
    return f"{class_name_of(serialized)}{home}" + (f", registered as {registered}" if registered else "")


def read_cell(serialized: Config, reading: Reading, where: str) -> CellPlan | None:
    """What the configuration of a cell says; what cannot be kept goes to the problems."""
    class_name = class_name_of(serialized)
    where = f"{where}, {where_of(serialized).removeprefix('layer ')}"
    known = (is_own(serialized) and class_name in CELLS) or (
        class_name in CELL_KIND_OF
        and serialized.get("module") == "keras.layers"
        and serialized.get("registered_name") is None
    )
    if not known:
        remedy = WRITTEN if class_name in WRITTEN_CLASSES else "use LSTMCell, GRUCell or SimpleRNNCell of keras.layers"
        what, expected = "this cell is not converted", ", ".join(CELL_KIND_OF)
        reading.problems.append(Problem(what, where, expected, described(serialized), remedy))
        return None
    config = field(serialized, "config", Mapping, where)
    check_options(config, CELLS[class_name], where, reading.problems)
    if class_name == OWN_CELL:
        return _read_own(config, name_of(serialized), where)
    if class_name in WRITTEN_CELLS:
        return _read_written(WRITTEN_CELLS[class_name], config, name_of(serialized), where, reading)
    return read_options(CELL_KIND_OF[class_name], config, name_of(serialized), where, reading)


def read_options(kind: Kind, config: Config, name: str, where: str, reading: Reading) -> CellPlan:
    """The cell that the options of a layer or of a cell of Keras describe."""
    candidate = _function(config, "activation", "tanh", where, reading)
    chosen = {"candidate": candidate, "output": candidate}
    if kind != "rnn":
        chosen["gate"] = _function(config, "recurrent_activation", "sigmoid", where, reading)
    reset_after = bool(config.get("reset_after", True)) if kind == "gru" else True
    return CellPlan(
        name,
        where,
        kind,
        size_of(config, "units", where),
        Cell(tuple(chosen[slot] for slot in SLOTS[kind]), reset_after),
        bool(config.get("use_bias", True)),
        dropout=_rate(config, "dropout", where),
        recurrent_dropout=_rate(config, "recurrent_dropout", where),
    )


def _function(config: Config, option: str, usual: str, where: str, reading: Reading) -> Function:
    value = plain(config.get(option, usual))
    named = value if value is None or isinstance(value, str) else shown(value)
    try:
        return function_of(named, reading.hard_sigmoid_of_keras_2)
    except UnsupportedError as error:
        fact = error.problems[0]
        got = f"{option}={shown(value)}"
        reading.problems.append(Problem(f"{option} is not kept exactly", where, fact.expected, got, fact.remedy))
        return Function(usual)


def _rate(config: Config, option: str, where: str) -> float:
    value = config.get(option) or 0.0
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise FormatError(f"{option} is not a share", where, "a number from 0 to 1", shown(value))
    return float(value)


def _read_written(kind: Kind, config: Config, name: str, where: str, reading: Reading) -> CellPlan:
    """A cell of a module that parity has written: `parity.graph.keras_code.snippets`."""
    plan = read_options(kind, config, name, where, reading)
    functions = dict(zip(SLOTS[kind], plan.cell.functions, strict=True))
    if kind == "lstm":
        functions["output"] = _function(config, "output_activation", "tanh", where, reading)
    projection_size = config.get("projection")
    cell = Cell(
        tuple(functions[slot] for slot in SLOTS[kind]),
        plan.cell.reset_after,
        _clip(config, where),
        bool(config.get("coupled", False)),
    )
    return replace(
        plan,
        cell=cell,
        projection_size=None if projection_size is None else size_of(config, "projection", where),
        peepholes=bool(config.get("peepholes", False)),
    )


def _clip(config: Config, where: str) -> float | None:
    clip = config.get("clip")
    if clip is not None and (not isinstance(clip, (int, float)) or isinstance(clip, bool) or not clip > 0):
        raise FormatError("clip is no limit", where, "a number above zero", shown(clip))
    return None if clip is None else float(clip)


def _read_own(config: Config, name: str, where: str) -> CellPlan:
    kind, rows = config.get("kind"), config.get("functions")
    if kind not in KINDS or not isinstance(rows, (list, tuple)) or len(rows) != len(SLOTS[kind]):
        raise FormatError(
            "this is no cell of parity", where, f"a kind of {', '.join(KINDS)} and its functions", str(kind)
        )
    functions = []
    for row in rows:
        if not isinstance(row, (list, tuple)) or len(row) != 3 or row[0] not in FUNCTIONS:
            raise FormatError("this is no function", where, "name, alpha, beta", shown(row))
        functions.append(_own_function(row, where))
    clip, projection_size = _clip(config, where), config.get("projection_size")
    return CellPlan(
        name,
        where,
        kind,
        size_of(config, "units", where),
        Cell(tuple(functions), bool(config.get("reset_after", True)), clip, bool(config.get("input_forget", False))),
        bool(config.get("use_bias", True)),
        None if projection_size is None else size_of(config, "projection_size", where),
        bool(config.get("peepholes", False)),
        own=True,
    )


def _own_function(row: Sequence[Any], where: str) -> Function:
    name, *given = row
    has = (FUNCTIONS[name].alpha, FUNCTIONS[name].beta)
    if any(
        (value is None) != (usual is None) or isinstance(value, (str, bool))
        for value, usual in zip(given, has, strict=True)
    ):
        raise FormatError("a function without its parameters", where, "a number for each parameter it has", shown(row))
    return Function(name, *given)
