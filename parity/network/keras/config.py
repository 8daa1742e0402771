"""Keras configurations (what `config.json` in a `.keras` file holds) -> Network. Imports no framework.

Which options keep the numbers is data: `parity.network.keras.options`. A configuration is read in three steps: its
chain of layers (`parity.network.keras.chain`), every layer (`_plan`, into the plans of `parity.network.keras.plans`), the weights
(`_with_weights`). The first two collect every problem of the whole model before anything is raised.

Source: Keras 3 `serialize_keras_object`, `Functional.get_config`, and the `get_config` of each layer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from parity.conventions import MergeMode
from parity.errors import FormatError, Problem, ShapeError, UnsupportedError
from parity.network.graph import Layer, Network, Output
from parity.network.keras.cells import CellPlan, Reading, read_cell, read_options
from parity.network.keras.chain import (
    MODEL_READERS,
    Chain,
    chain_of,
    class_name_of,
    field,
    name_of,
    size_of,
    where_of,
)
from parity.network.keras.options import (
    CELL_KIND_OF,
    CELLS,
    CLASSES,
    COMMON,
    DTYPES,
    KIND_OF,
    MASK_OPERATIONS,
    OTHER_CLASSES,
    OWN_ALIGNED,
    OWN_CELL,
    STACKED,
    Config,
    check_options,
    is_own,
    plain,
    shown,
)
from parity.network.keras.plans import (
    BidirectionalPlan,
    DensePlan,
    DropoutPlan,
    EmbeddingPlan,
    MaskingPlan,
    Plan,
    StackPlan,
    masking_problems,
    rank_problems,
)
from parity.recurrent import Array


class Stored(Protocol):
    """A weight, perhaps still in a file: its shape and dtype are looked at before `numpy.asarray` reads it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""

    @property
    def dtype(self) -> Any:
        """Type of its numbers, of NumPy or another that has a name."""


_OTHER_CLASS = "convert the part of the model around its recurrent layers by itself: keras.Model(inputs, outputs)"


def network_from_keras(
    serialized: Config,
    arrays: Callable[[str], Sequence[Stored]],
    name: str | None = None,
    hard_sigmoid_of_keras_2: bool = False,
) -> Network:
    """Read a Sequential or Functional model.

    Args:
        serialized: what `keras.saving.serialize_keras_object(model)` gives and `config.json` holds.
        arrays: the weights of a layer by its name, in the order of `layer.get_weights()`; they are read only after all
            their shapes have been checked.
        name: of the network; the model's own by default.
        hard_sigmoid_of_keras_2: whether "hard_sigmoid" means 0.2 x + 0.5, as it did before Keras 3.

    Returns:
        A network with the model's outputs, named after their layers (`lstm`, or `lstm.state_h` for a state). Weights of float16 and
        bfloat16 become float32; `details["stored as"]` says so.

    Raises:
        UnsupportedError: anything that is not kept exactly; all problems of the model at once.
        ShapeError: weights that do not fit the configuration; all at once.
        FormatError: not a configuration of a Keras model.

    Example:
        >>> config = {"units": 1, "use_bias": False, "name": "lstm"}
        >>> layer = {"module": "keras.layers", "class_name": "LSTM", "config": config, "registered_name": None}
        >>> model = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}}
        >>> kernel, recurrent_kernel = np.ones((2, 4), np.float32), np.ones((1, 4), np.float32)
        >>> network_from_keras(model, lambda name: [kernel, recurrent_kernel]).specs["lstm"].input_size
        2
    """
    problems: list[Problem] = []
    reading = Reading(problems, hard_sigmoid_of_keras_2)
    chain = chain_of(serialized, problems)
    plans = [plan for plan in (_plan(layer, reading) for layer in chain.layers) if plan]
    complete = len(plans) == len(chain.layers)
    by_name = {plan.name: plan for plan in plans}
    problems += masking_problems(plans)
    problems += _wiring_problems(chain, by_name)
    if complete and not problems:
        problems += rank_problems(plans, len(chain.input_shape) if chain.input_shape else None)
    outputs = _outputs(chain, plans, problems)
    if problems:
        raise UnsupportedError(problems)
    shape = chain.input_shape
    size = shape[-1] if shape and isinstance(shape[-1], int) and not isinstance(plans[0], EmbeddingPlan) else None
    title = name or str(serialized["config"].get("name") or "model")
    time = shape[1] if shape and len(shape) > 1 and isinstance(shape[1], int) else None
    layers, details = _with_weights(plans, arrays, size)
    return Network(title, layers, outputs, "keras", details, time)


def layers_from_keras(
    serialized_layer: Config, arrays: Sequence[Stored], hard_sigmoid_of_keras_2: bool = False
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    """Read a single layer or cell.

    Args:
        serialized_layer: what `keras.saving.serialize_keras_object(layer)` gives.
        arrays: the layer's weights, as `layer.get_weights()` gives them.
        hard_sigmoid_of_keras_2: as `network_from_keras`.

    Returns:
        The nodes that say it, several for `RNN` around a list of cells; and what `Network.details` says of its weights.

    Raises:
        UnsupportedError: another class, or options that are not kept exactly; all problems at once.
        ShapeError: weights that do not fit the configuration.
    """
    reading = Reading([], hard_sigmoid_of_keras_2)
    plan = _plan(serialized_layer, reading)
    if plan is None or reading.problems:
        raise UnsupportedError(reading.problems)
    return _with_weights([plan], lambda _: arrays, None)


def weight_paths(serialized: Config) -> dict[str, tuple[str, ...]]:
    """Where a `.weights.h5` file keeps each layer: the groups of its cells, in the order of `layer.get_weights()`.

    Groups are named after the class, numbered in the order of the configuration, whatever the layers are called.

    Example:
        >>> layers = [{"class_name": "GRU", "config": {"name": name}} for name in ("zeta", "alpha")]
        >>> weight_paths({"config": {"layers": layers}})
        {'zeta': ('layers/gru/cell/vars',), 'alpha': ('layers/gru_1/cell/vars',)}
    """
    layers = serialized["config"]["layers"]
    groups = zip(layers, _numbered(layers), strict=True)
    return {
        layer["config"]["name"]: tuple(f"{path}/vars" for path in _groups(layer, f"layers/{group}"))
        for layer, group in groups
        if layer["class_name"] in CLASSES
    }


def _numbered(objects: Sequence[Config]) -> Iterator[str]:
    """The name of each object's group among those beside it: its class in snake case, numbered from the second of that class on."""
    seen: Counter[str] = Counter()
    for each in objects:
        words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", str(each["class_name"]))
        stem = re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()
        yield f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += 1


def _groups(serialized: Config, path: str) -> Iterator[str]:
    """The groups of the cells of an object that stands at a path."""
    class_name, config = serialized["class_name"], serialized["config"]
    if class_name == "Bidirectional":
        yield from _groups(config["layer"], f"{path}/forward_layer")
        yield from _groups(config.get("backward_layer") or config["layer"], f"{path}/backward_layer")
    elif class_name == OWN_ALIGNED:
        yield from _groups(config["layer"], f"{path}/layer")
    elif class_name == "RNN":
        yield from _groups(config["cell"], f"{path}/cell")
    elif class_name == STACKED:
        for cell, group in zip(config["cells"], _numbered(config["cells"]), strict=True):
            yield from _groups(cell, f"{path}/cells/{group}")
    elif class_name in KIND_OF:
        yield f"{path}/cell"
    elif class_name not in ("Masking", "Dropout"):
        yield path


def _with_weights(
    plans: Sequence[Plan], arrays: Callable[[str], Sequence[Stored]], input_size: int | None
) -> tuple[tuple[Layer, ...], dict[str, str]]:
    stored = [arrays(plan.name) for plan in plans]
    problems: list[Problem] = []
    if input_size is None:
        input_size = next((_features(plan, weights) for plan, weights in zip(plans, stored, strict=True) if weights), 1)
    sizes = [input_size]
    for plan, weights in zip(plans, stored, strict=True):
        problems += _weight_problems(plan, plan.shapes(sizes[-1]), weights)
        sizes.append(plan.output_size(sizes[-1]))
    types = {_dtype_name(weight) for weights in stored for weight in weights}
    if {"float32", "float64"} <= types:
        problems += _odd_weights(plans, stored)
    if problems:
        raise ShapeError(problems)
    small = types - {"float32", "float64"}
    layers = [
        layer
        for plan, weights, size in zip(plans, stored, sizes, strict=False)
        for layer in plan.build([_as_kept(weight) for weight in weights], size)
    ]
    return tuple(layers), {"stored as": ", ".join(sorted(small))} if small else {}


def _odd_weights(plans: Sequence[Plan], stored: Sequence[Sequence[Stored]]) -> Iterator[Problem]:
    """float64 weights among float32 ones: Keras would round them, or compute layer by layer in another type."""
    for plan, weights in zip(plans, stored, strict=True):
        for number, weight in enumerate(weights):
            if _dtype_name(weight) == "float64":
                remedy = COMMON["dtype"].remedy
                yield Problem(
                    f"weight {number} is not float32, as others are", plan.where, "one type", "float64", remedy
                )


def _features(plan: Plan, weights: Sequence[Stored]) -> int:
    """Features that a layer takes, told from its first weight."""
    own = isinstance(plan, (StackPlan, BidirectionalPlan)) and len(weights[0].shape) == 3
    return int(weights[0].shape[-1 if own else 0]) if weights[0].shape else 1


def _dtype_name(weight: Stored) -> str:
    return str(getattr(weight.dtype, "name", weight.dtype))


def _as_kept(weight: Stored) -> Array:
    array = np.asarray(weight)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _weight_problems(
    plan: Plan, shapes: list[tuple[str, tuple[int, ...]]], weights: Sequence[Stored]
) -> Iterator[Problem]:
    if len(weights) != len(shapes):
        expected = f"{len(shapes)}: {', '.join(name for name, _ in shapes)}"
        yield Problem("wrong number of weights", plan.where, expected, str(len(weights)))
        return
    for (name, shape), weight in zip(shapes, weights, strict=True):
        if tuple(weight.shape) != shape:
            yield Problem(f"weight '{name}' has the wrong shape", plan.where, str(shape), str(tuple(weight.shape)))
        if _dtype_name(weight) not in DTYPES:
            got, remedy = _dtype_name(weight), COMMON["dtype"].remedy
            yield Problem(f"weight '{name}' is not a floating point array", plan.where, ", ".join(DTYPES), got, remedy)


def _plan(layer: Config, reading: Reading) -> Plan | None:
    """What a layer's configuration says; what cannot be kept goes to the problems."""
    class_name, config = class_name_of(layer), field(layer, "config", Mapping, "a layer")
    where, name = where_of(layer), name_of(layer)
    if class_name in CELL_KIND_OF or class_name == OWN_CELL:
        cell = read_cell(layer, reading, "a cell")
        return None if cell is None else StackPlan(name, where, cells=(cell,), single_step=True)
    if not _own_class(layer, class_name, where, reading.problems):
        return None
    check_options(config, CLASSES[class_name], where, reading.problems)
    if class_name == "Embedding":
        rows, features = size_of(config, "input_dim", where), size_of(config, "output_dim", where)
        return EmbeddingPlan(name, where, rows=rows, features=features, mask_zero=bool(config.get("mask_zero")))
    if class_name == "Dense":
        activation = str(plain(config.get("activation", "linear")))
        units = size_of(config, "units", where)
        return DensePlan(name, where, units=units, use_bias=bool(config.get("use_bias", True)), activation=activation)
    if class_name == "Masking":
        return MaskingPlan(name, where, mask_value=_number(config, "mask_value", where))
    if class_name == "Dropout":
        return DropoutPlan(name, where, rate=_number(config, "rate", where))
    if class_name == "Bidirectional":
        return _bidirectional(config, name, where, reading)
    if class_name == OWN_ALIGNED:
        inner = _plan(field(config, "layer", Mapping, where), reading)
        if not isinstance(inner, StackPlan):
            raise FormatError(
                "this aligns no recurrent layer", where, "LSTM, GRU, SimpleRNN or RNN", shown(config["layer"])
            )
        return replace(inner, name=name, where=where, reverse=not inner.reverse)
    return _stack(class_name, config, name, where, reading)


def _number(config: Config, key: str, where: str) -> float:
    value = config.get(key, 0.0)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise FormatError(f"{key} is not a number", where, "a number", shown(value))
    return float(value)


def _stack(class_name: str, config: Config, name: str, where: str, reading: Reading) -> StackPlan | None:
    if class_name == "RNN":
        cells = list(_cells(field(config, "cell", Mapping, where), reading, where))
        if not cells or None in cells:
            return None
    else:
        cells = [read_options(KIND_OF[class_name], config, name, where, reading)]
    backwards = bool(config.get("go_backwards", False))
    return StackPlan(
        name,
        where,
        cells=tuple(cell for cell in cells if cell),
        go_backwards=backwards,
        return_sequences=bool(config.get("return_sequences", False)),
        return_state=bool(config.get("return_state", False)),
        stateful=bool(config.get("stateful", False)),
        unroll=bool(config.get("unroll", False)),
        fill="zero" if config.get("zero_output_for_mask") else "repeat",
        reverse=backwards,
    )


def _cells(serialized: Config, reading: Reading, where: str) -> Iterator[CellPlan | None]:
    """The cells of an `RNN`, one by one; None for one that is not read."""
    if class_name_of(serialized) != STACKED or serialized.get("module") != "keras.layers":
        yield read_cell(serialized, reading, where)
        return
    config = field(serialized, "config", Mapping, where)
    check_options(config, CELLS[STACKED], where, reading.problems)
    for cell in field(config, "cells", (list, tuple), where):
        if not isinstance(cell, Mapping):
            raise FormatError("a cell is not a JSON object", where, "an object", shown(cell))
        yield read_cell(cell, reading, where)


def _bidirectional(config: Config, name: str, where: str, reading: Reading) -> BidirectionalPlan | None:
    forward: Config = field(config, "layer", Mapping, where)
    if config.get("backward_layer") is None:
        inner: Config = field(forward, "config", Mapping, where)
        title = str(inner.get("name", "layer"))
        backward: Config = {**forward, "config": {**inner, "name": f"backward_{title}", "go_backwards": True}}
        labels = ["layer"]
    else:
        backward = field(config, "backward_layer", Mapping, where)
        labels = ["layer", "backward_layer"]
    stacks: list[StackPlan] = []
    for label, layer in zip(("layer", "backward_layer"), (forward, backward), strict=True):
        class_name = class_name_of(layer)
        inside = f"{where}, {label} ({class_name})"
        silent = reading if label in labels else replace(reading, problems=[])
        if class_name not in (*KIND_OF, "RNN"):
            expected, remedy = f"{', '.join(KIND_OF)} or RNN", "use one of these inside the Bidirectional"
            silent.problems.append(
                Problem("this layer inside a Bidirectional is not converted", inside, expected, class_name, remedy)
            )
        elif _own_class(layer, class_name, inside, silent.problems):
            options: Config = field(layer, "config", Mapping, inside)
            check_options(options, CLASSES[class_name], inside, silent.problems)
            title = f"{name}.{name_of(layer)}"
            stack = _stack(class_name, options, title, inside, silent)
            if stack:
                stacks.append(stack)
    if len(stacks) < 2:
        return None
    first, second = stacks
    if first.name == second.name:
        second = replace(second, name=f"{second.name}_backward")
    # Keras sets zero_output_for_mask of both to return_sequences, whatever it was.
    plan = BidirectionalPlan(
        name,
        where,
        forward=replace(first, fill="zero" if first.return_sequences else "repeat"),
        backward=replace(second, fill="zero" if second.return_sequences else "repeat", reverse=not second.go_backwards),
        merge_mode=_merge_mode(config),
    )
    reading.problems.extend(plan.problems())
    return plan


def _merge_mode(config: Config) -> MergeMode | None:
    mode: MergeMode | None = config.get("merge_mode", "concat")
    return mode


def _own_class(layer: Config, class_name: str, where: str, problems: list[Problem]) -> bool:
    """Whether the layer is one of Keras's own, or of parity's, that are read."""
    if is_own(layer):
        return True
    module, registered = layer.get("module"), layer.get("registered_name")
    operation = str(module).startswith("keras.src.ops")
    if not operation and (module != "keras.layers" or registered is not None) and class_name not in MODEL_READERS:
        got = f"{class_name} of module {module}, registered as {registered}"
        remedy = "use the class of keras.layers itself: an own call() is not read"
        problems.append(Problem("a custom layer class is not converted", where, "a class of keras.layers", got, remedy))
        return False
    if class_name not in CLASSES or class_name in (OWN_ALIGNED, *MASK_OPERATIONS):
        remedy = OTHER_CLASSES.get(class_name, _OTHER_CLASS)
        known = ", ".join(name for name in CLASSES if name != OWN_ALIGNED)
        problems.append(Problem("this layer class is not converted", where, known, class_name, remedy))
        return False
    return True


def _wiring_problems(chain: Chain, plans: Mapping[str, Plan]) -> Iterator[Problem]:
    for name, (source, index) in chain.sources.items():
        plan = plans.get(source)
        if index and name in plans and not (isinstance(plan, StackPlan) and _same_as_output(plan, index)):
            got = f"value {index} of layer '{source}'"
            remedy = "take the layer's first value; with return_sequences=False that is the final h"
            yield Problem("the layer takes a state instead of the output", plans[name].where, "value 0", got, remedy)


def _same_as_output(plan: StackPlan, index: int) -> bool:
    """Whether it is the final h of a layer that gives just that; zeros at masked steps would be something else."""
    single = len(plan.cells) == 1 and plan.fill == "repeat"
    return index == 1 and single and plan.return_state and not plan.return_sequences


def _outputs(chain: Chain, plans: Sequence[Plan], problems: list[Problem]) -> tuple[Output, ...]:
    where = "the model's outputs"
    by_name = {plan.name: plan for plan in plans}
    references = chain.outputs
    if references is None:
        last = plans[-1] if plans and len(plans) == len(chain.layers) else None
        references = [(last.name, index) for index in range(len(last.values))] if last else []
    outputs: list[Output] = []
    for name, index in references:
        plan = by_name.get(name)
        if plan is None:
            if not any(name_of(layer) == name for layer in chain.layers):
                problems.append(
                    Problem("an output is the input itself", where, "values of layers", name, "leave it out")
                )
            continue
        if index >= len(plan.values):
            expected = f"an index below {len(plan.values)}"
            raise FormatError("an output that its layer does not give", plan.where, expected, str(index))
        outputs.append(Output(*plan.values[index]))
    for name, count in Counter(output.name for output in outputs).items():
        if count > 1:
            got = f"{count} times '{name}'"
            problems.append(Problem("an output appears several times", where, "once", got, "give it once"))
    return tuple(outputs)
