"""Runs live layers and models of Keras: as they are, and through twins that show every step and state."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.conventions import Quantity, Value, keras_returns, merge, to_canonical
from parity.errors import Problem, UnsupportedError
from parity.frameworks import Settings, quiet_import
from parity.frameworks.keras.devices import device_of
from parity.frameworks.keras.twins import (
    by_node,
    cells,
    is_cell,
    live_layers,
    nested,
    other_twin,
    paths,
    stateless,
    twins,
)
from parity.network import Bidirectional, Embedding, Masking, Network, Recurrent
from parity.network.graph import output_values
from parity.network.keras.layer_writing import dtype_of
from parity.recurrent import DIRECTIONS, Array
from parity.result import LayerRun, Result, Returned, State

with quiet_import():
    import keras

ENGINE = "keras"

_EAGER_STEPS = 32
"""Up to so many steps TensorFlow is quicker step by step than tracing a graph first."""

Tensor = Any
Live = Any


@dataclass(frozen=True)
class Row:
    """One value of what a live layer or model returns: its name, the node it comes from, and which of the node's values."""

    name: str
    node: str
    value: Value | None


class KerasRunner:
    """Runs a live layer or model, and twins of its recurrent layers that show every step and state; see `Runner`.

    The model is called as it is for its outputs, or a copy where it is stateful: the user's own states stay as they are. A twin has the
    same configuration and weights, but returns its sequence and states, whatever the user's layer returns.

    Attributes:
        traces: how often a function was traced or compiled: once for each kind of shape, however often it is called.
    """

    engine = ENGINE

    def __init__(self, source: Live, network: Network, settings: Settings) -> None:
        self._network, self._settings = network, settings
        self._dtype = "float64" if settings.dtype == "float64" else dtype_of(network.layers)
        self._source = stateless(source, network)
        self._model = isinstance(source, keras.Model)
        self._twins = twins(source, network, self._dtype)
        self._others = {
            nodes[0].name: other_twin(live, nodes[0].input_size, self._dtype)
            for live, nodes in by_node(source, network)
            if not paths(live)
        }
        self._same_dtype = {keras.backend.standardize_dtype(weight.dtype) for weight in source.weights} == {self._dtype}
        self._functions: dict[str, Callable[..., Any]] = {}
        self.traces = 0

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers, all or those steps that the mask says are valid.

        Raises:
            UnsupportedError: a mask where Keras gives its backends' different answers.
        """
        if mask is not None or self._network.masks_itself:
            self._check_mask()
        with self._device():
            x = keras.ops.convert_to_tensor(inputs.astype("int32" if self._network.tokens else self._dtype))
            valid = None if mask is None else keras.ops.convert_to_tensor(mask.astype(bool))
            start = {name: self._initial(name, states[name]) for name in self._network.specs}
            given, flat = self._compiled("twins", self._reveal, inputs.shape[1])(x, start, valid)
            masked = mask is not None or self._network.masks_itself
            runs = {name: self._run(name, arrays, masked) for name, arrays in flat.items()}
            outputs = output_values(self._network, {name: _array(v) for name, v in given.items()}, runs)
            own = self._native(x, start, states, valid)
            returned = [(row, _array(tensor)) for row, tensor in own]
        if not self._model or self._network.bare:
            runs = self._with_own(runs, returned, masked)
        named = {row.name: array for row, array in returned}
        outputs = {name: named.get(name, array) for name, array in outputs.items()}
        # What could not be called as it is would have returned the same, of the twins' values.
        shown = returned or [
            (row, outputs[row.name] if row.name in outputs else self._of_twins(row, given, runs))
            for row in self._own_rows()
        ]
        handed = tuple(Returned(row.name, array.shape, str(array.dtype)) for row, array in shown)
        return Result(ENGINE, outputs, runs, handed, self._describe(inputs.shape[1]))

    def _check_mask(self) -> None:
        problems = []
        backend = keras.backend.backend()
        for layer in self._network.recurrent:
            backward = len(layer.spec.directions) > 1 or layer.spec.directions == DIRECTIONS[1:]
            inside = any(layer in part.recurrent for part in self._network.layers if isinstance(part, Bidirectional))
            if layer.unroll and (backward or inside or (backend == "jax" and layer.fill == "zero")):
                expected, remedy = "unroll=False", "set unroll=False: unrolled, Keras masks the wrong steps here"
                got = f"unroll=True on the backend {backend}"
                problems.append(Problem("a mask and unroll", f"layer '{layer.name}'", expected, got, remedy))
        if problems:
            raise UnsupportedError(problems)

    # ---- the user's own layer or model

    def _native(
        self, x: Tensor, start: Mapping[str, Any], states: Mapping[str, State], mask: Tensor
    ) -> list[tuple[Row, Tensor]]:
        """What the user's own layer or model returns, called as it is; nothing where it cannot be called like this."""
        moved = any(array.any() for state in states.values() for array in state.arrays())
        time = int(x.shape[1])
        masked = mask is not None or self._network.masks_itself
        if not self._same_dtype or (is_cell(self._source) and masked) or (masked and self._has_lone_cell()):
            return []
        if self._model:
            # A model takes no initial states; and Keras lets a mask that a layer makes replace the one it is given.
            first = self._network.layers[0]
            replaced = self._network.masks_itself or isinstance(first, Embedding) or self._network.origin != ENGINE
            if moved or self._network.time not in (None, time) or (mask is not None and replaced):
                return []
            returned = self._compiled("model", lambda x, mask: self._source(x, mask=mask), time)(x, mask)
        elif is_cell(self._source):
            returned = self._compiled("cell", self._stepwise, time)(x, start[self._network.recurrent[0].name][0])
        else:
            counts = {sum(len(cell.spec.states) for cell in stack) for stack in self._stacks()}
            if moved and len(counts) > 1:
                return []  # Bidirectional cuts a list of states in the middle
            cell_states = [own for layer in self._network.recurrent for own in start[layer.name]]
            given = nested(self._source, cell_states) if moved or len(counts) == 1 else None
            returned = self._compiled("layer", self._called, time)(x, given, mask)
        return list(zip(self._own_rows(), keras.tree.flatten(returned), strict=True))

    def _has_lone_cell(self) -> bool:
        """Whether there is an `RNN` around a list of one cell, which Keras on TensorFlow refuses under a mask."""
        every = [path for live in live_layers(self._source) for path in paths(live) if not is_cell(path)]
        return any(isinstance(path.cell, keras.layers.StackedRNNCells) and len(cells(path)) == 1 for path in every)

    def _called(self, x: Tensor, states: Any, mask: Tensor) -> Any:
        return self._source(x, initial_state=states, mask=mask)

    def _stepwise(self, x: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
        """A cell, called for one step after the other."""
        outputs, now = [], list(states)
        for step in range(x.shape[1]):
            output, after = self._source(x[:, step], now)
            now = list(after) if isinstance(after, (list, tuple)) else [after]
            outputs.append(output)
        return [keras.ops.stack(outputs, axis=1), *now]

    def _stacks(self) -> list[tuple[Recurrent, ...]]:
        last = self._network.layers[-1]
        return list(last.stacks) if isinstance(last, Bidirectional) else [self._network.recurrent]

    def _own_rows(self) -> list[Row]:
        """What the user's own layer or model returns, flattened."""
        if not self._network.bare:
            return [Row(output.name, output.layer, output.value) for output in self._network.outputs]
        live, last = self._source, self._network.layers[-1]
        if isinstance(last, Bidirectional):
            rows = [Row("output", last.name, None)]
            if last.merge_mode is None:
                rows = [Row(stack[-1].name, stack[-1].name, stack[-1].given[0]) for stack in last.stacks]
        else:
            assert isinstance(last, Recurrent)
            rows = [Row(value.name, last.name, value) for value in last.given]
        if is_cell(live):
            rows = [Row("output", rows[0].node, keras_returns(self._network.recurrent[0].spec.kind, False, True)[0])]
        elif not self._model and not paths(live)[0].return_state:
            return rows
        several = len(self._network.recurrent) > 1
        states = [(layer, value) for layer in self._network.recurrent for value in layer.values[len(layer.given) :]]
        return [*rows, *(Row(f"{layer.name}.{v.name}" if several else v.name, layer.name, v) for layer, v in states)]

    @staticmethod
    def _of_twins(row: Row, given: Mapping[str, Tensor], runs: Mapping[str, LayerRun]) -> Array:
        return _array(given[row.node]) if row.value is None else row.value.of([runs[row.node]])

    def _with_own(
        self, runs: dict[str, LayerRun], returned: Sequence[tuple[Row, Array]], masked: bool
    ) -> dict[str, LayerRun]:
        """What the user's own layer returned takes the place of the twin's values, where it tells the directions apart."""
        found: defaultdict[tuple[str, Quantity, int], list[Array]] = defaultdict(list)
        for row, array in returned:
            if row.value is None or row.value.select not in ("all", *DIRECTIONS):
                continue
            quantity = "h" if row.value.quantity == "last" and not masked else row.value.quantity
            directions = len(self._network.specs[row.node].directions)
            first = 0 if row.value.select == "all" else DIRECTIONS.index(row.value.select)
            whole = to_canonical([row.value], [array], directions if row.value.select == "all" else 1)
            canonical = whole[row.value.quantity]
            parts = canonical.transpose(2, 0, 1, 3) if quantity == "sequence" else canonical[0]
            for index, part in enumerate(parts, first):
                found[row.node, quantity, index].append(part)
        changed = {name: _arrays_of(run) for name, run in runs.items()}
        for (node, quantity, index), candidates in found.items():
            place = (slice(None), slice(None), index) if quantity == "sequence" else (index,)
            twin = changed[node][quantity]
            # Where it returned one quantity twice (output and state_h), the one that is further off is judged.
            twin[place] = max(candidates, key=lambda own: _distance(twin[place], own))
        return {
            name: LayerRun(State(*(a[q] for q in ("h", "c") if q in a)), a["sequence"], a.get("last"))
            for name, a in changed.items()
        }

    # ---- the twins

    def _reveal(
        self, x: Tensor, states: Mapping[str, Any], mask: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
        """What every layer gives on, and everything the recurrent ones compute, flat."""
        given: dict[str, Tensor] = {}
        flat: dict[str, list[Tensor]] = {}
        for layer in self._network.layers:
            if isinstance(layer, Recurrent):
                flat[layer.name], ways = self._shown(layer, x, states, mask)
                x = _merged(layer, ways)
            elif isinstance(layer, Bidirectional):
                x = self._unlike(layer, x, states, mask, flat)
            else:
                own = self._others[layer.name]
                if isinstance(layer, (Masking, Embedding)):
                    mask = _both(mask, own.compute_mask(x, None))
                x = own(x)
            if isinstance(layer, (Recurrent, Bidirectional)) and not layer.return_sequences:
                mask = None
            given[layer.name] = x
        return given, flat

    def _shown(
        self, layer: Recurrent, x: Tensor, states: Mapping[str, Any], mask: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Everything a node computes, as `_revealed` lists it; and the aligned sequence of each direction."""
        sequences, finals = [], []
        for twin, start in zip(self._twins[layer.name], states[layer.name], strict=True):
            sequence, *final = twin(x, initial_state=list(start), mask=mask)
            sequences.append(keras.ops.flip(sequence, axis=1) if twin.go_backwards else sequence)
            finals += final
        return [keras.ops.concatenate(sequences, axis=-1), *finals], sequences

    def _unlike(
        self, layer: Bidirectional, x: Tensor, states: Mapping[str, Any], mask: Tensor, flat: dict[str, list[Tensor]]
    ) -> Tensor:
        outputs = []
        for stack in layer.stacks:
            value = x
            for part in stack:
                flat[part.name], ways = self._shown(part, value, states, mask)
                value = _given(part, ways[0], 0)
            outputs.append(value)
        return _merge(outputs, layer.merge_mode)

    @staticmethod
    def _revealed(layer: Recurrent) -> tuple[Value, ...]:
        return keras_returns(layer.spec.kind, layer.bidirectional, return_sequences=True, return_state=True)

    def _initial(self, name: str, state: State) -> list[list[Tensor]]:
        """The states of each direction of a layer, as its twins take them."""
        layer = next(layer for layer in self._network.recurrent if layer.name == name)
        tensors = [keras.ops.convert_to_tensor(array.astype(self._dtype)) for array in state.arrays()]
        return [[tensor[index] for tensor in tensors] for index in range(len(layer.spec.directions))]

    def _run(self, name: str, flat: Sequence[Tensor], masked: bool) -> LayerRun:
        layer = next(layer for layer in self._network.recurrent if layer.name == name)
        found = to_canonical(self._revealed(layer), [_array(value) for value in flat], len(layer.spec.directions))
        sequence = found["sequence"]
        ends = {"forward": -1, "backward": 0}
        last = np.stack([sequence[:, ends[way], index] for index, way in enumerate(layer.spec.directions)])
        final = State(*(found[key][0] for key in ("h", "c") if key in found))
        return LayerRun(final, sequence, last if masked else None)

    # ---- how it runs

    def _compiled(self, key: str, function: Callable[..., Any], time: int) -> Callable[..., Any]:
        """The function, compiled where that is quicker: the same one at every call, so a shape seen before is not traced again."""
        backend = keras.backend.backend()
        eager = (backend == "tensorflow" and time <= _EAGER_STEPS) or backend == "torch" or self._draws(key)
        if eager:
            return function
        if key not in self._functions:

            def traced(*arguments: Any) -> Any:
                self.traces += 1
                return function(*arguments)

            if backend == "tensorflow":
                tensorflow = importlib.import_module("tensorflow")
                self._functions[key] = tensorflow.function(traced, reduce_retracing=True)
            else:
                self._functions[key] = importlib.import_module("jax").jit(traced)
        return self._functions[key]

    def _draws(self, key: str) -> bool:
        """Whether JAX would have to carry the state of a random generator: dropout draws numbers even where it does nothing."""
        rates = any(layer.dropout or layer.recurrent_dropout for layer in self._network.recurrent)
        return keras.backend.backend() == "jax" and key != "twins" and rates

    @contextmanager
    def _device(self) -> Iterator[None]:
        with device_of(self._settings), warnings.catch_warnings(), _without_advice():
            # A model that takes a mask and hands none on says so at every call.
            warnings.filterwarnings("ignore", message=".*does not support masking.*")
            yield

    def _describe(self, time: int) -> dict[str, str]:
        backend = keras.backend.backend()
        facts = {
            "keras": keras.__version__,
            "backend": f"{backend} {importlib.import_module(backend).__version__}",
            "device": self._settings.device,
            "dtype": self._dtype,
        }
        if backend == "tensorflow":
            facts["path"] = "eager" if time <= _EAGER_STEPS else "tf.function"
        if self._settings.device == "cuda":
            facts["TF32"] = "on, asked for" if self._settings.tf32 else "off"
        return facts


def _given(layer: Recurrent, sequence: Tensor, index: int) -> Tensor:
    """What one direction of a layer gives on, of its aligned sequence."""
    if layer.return_sequences:
        return keras.ops.flip(sequence, axis=1) if layer.reverse else sequence
    return sequence[:, -1] if layer.spec.directions[index] == DIRECTIONS[0] else sequence[:, 0]


def _merged(layer: Recurrent, sequences: Sequence[Tensor]) -> Tensor:
    outputs = [_given(layer, sequence, index) for index, sequence in enumerate(sequences)]
    return outputs[0] if len(outputs) == 1 else _merge(outputs, layer.merge_mode)


def _merge(outputs: Sequence[Tensor], merge_mode: str | None) -> Tensor:
    """What the next layer gets of two outputs."""
    forward, backward = outputs
    if merge_mode is None:
        return forward
    if merge_mode == "concat":
        return keras.ops.concatenate([forward, backward], axis=-1)
    return merge(forward, backward, merge_mode)


def _both(left: Tensor, right: Tensor) -> Tensor:
    if left is None or right is None:
        return right if left is None else left
    return keras.ops.logical_and(left, right)


def _arrays_of(run: LayerRun) -> dict[Quantity, Array]:
    """Copies of a run's arrays by quantity."""
    every: dict[Quantity, Array | None] = {
        "sequence": run.sequence,
        "last": run.last,
        "h": run.final.h,
        "c": run.final.c,
    }
    return {quantity: array.copy() for quantity, array in every.items() if array is not None}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without TensorFlow's advice on tracing: every model is traced once here, and many models are not one traced often."""

    def keep(record: logging.LogRecord) -> bool:
        return "tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _distance(left: Array, right: Array) -> float:
    """The largest difference; a value that is no number is the furthest of all."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(left - right).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _array(tensor: Tensor) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(tensor))
