"""A serialized layer of Keras 3 -> its plan. Imports no framework.

Which options keep the numbers is data: `parity.network.keras.options`. Source: the `get_config` of each layer in Keras 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from parity.conventions import MergeMode
from parity.errors import REGISTER, FormatError, Problem
from parity.network.keras.cells import CellPlan, Reading, described, read_cell, read_options
from parity.network.keras.chain import MODEL_READERS, class_name_of, field, name_of, size_of, where_of
from parity.network.keras.options import (
    CELL_KIND_OF,
    CELLS,
    CLASSES,
    KIND_OF,
    MASK_OPERATIONS,
    OTHER_CLASSES,
    OWN_ALIGNED,
    OWN_CELL,
    STACKED,
    WRITTEN_CELLS,
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
)

_OTHER_CLASS = "convert the part of the model around its recurrent layers by itself: keras.Model(inputs, outputs)"


def plan_of(layer: Config, reading: Reading) -> Plan | None:
    """What a layer's configuration says; what cannot be kept goes to the problems."""
    class_name, config = class_name_of(layer), field(layer, "config", Mapping, "a layer")
    where, name = where_of(layer), name_of(layer)
    if class_name in CELL_KIND_OF or class_name == OWN_CELL or class_name in WRITTEN_CELLS:
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
    if class_name == "TimeDistributed":
        return _on_every_step(config, name, where, reading)
    if class_name == OWN_ALIGNED:
        inner = plan_of(field(config, "layer", Mapping, where), reading)
        if not isinstance(inner, StackPlan):
            raise FormatError(
                "this aligns no recurrent layer", where, "LSTM, GRU, SimpleRNN or RNN", shown(config["layer"])
            )
        return replace(inner, name=name, where=where, reverse=not inner.reverse)
    return _stack(class_name, config, name, where, reading)


def _on_every_step(config: Config, name: str, where: str, reading: Reading) -> Plan | None:
    """`TimeDistributed` around a layer that works on every step by itself anyway."""
    layer: Config = field(config, "layer", Mapping, where)
    class_name = class_name_of(layer)
    if class_name not in ("Dense", "Dropout"):
        remedy = "only Dense and Dropout work on every step by themselves"
        reading.problems.append(
            Problem(
                "this layer inside a TimeDistributed is not converted", where, "Dense or Dropout", class_name, remedy
            )
        )
        return None
    inner = plan_of(layer, reading)
    return None if inner is None else replace(inner, name=name, where=where, rank_in=3)


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
    # Keras sets zero_output_for_mask of both to return_sequences, whatever it was; before 2.4 it knew no such thing.
    zeroes = first.return_sequences and bool(config.get("zero_output_for_mask", True))
    plan = BidirectionalPlan(
        name,
        where,
        forward=replace(first, fill="zero" if zeroes else "repeat"),
        backward=replace(second, fill="zero" if zeroes else "repeat", reverse=not second.go_backwards),
        merge_mode=_merge_mode(config),
    )
    reading.problems.extend(plan.problems())
    return plan


def _merge_mode(config: Config) -> MergeMode | None:
    mode: MergeMode | None = config.get("merge_mode", "concat")
    return mode


def _own_class(layer: Config, class_name: str, where: str, problems: list[Problem]) -> bool:
    """Whether the layer is one of Keras's own, or of parity's, that are read."""
    if is_own(layer) and class_name in CLASSES:
        return True
    module, registered = layer.get("module"), layer.get("registered_name")
    operation = str(module).startswith("keras.src.ops")
    if not operation and (module != "keras.layers" or registered is not None) and class_name not in MODEL_READERS:
        remedy = f"use the class of keras.layers itself: an own call() is not read; or {REGISTER}"
        problems.append(
            Problem("a custom layer class is not converted", where, "a class of keras.layers", described(layer), remedy)
        )
        return False
    if class_name not in CLASSES or class_name in (OWN_ALIGNED, *MASK_OPERATIONS):
        remedy = OTHER_CLASSES.get(class_name, _OTHER_CLASS)
        known = ", ".join(name for name in CLASSES if name != OWN_ALIGNED)
        problems.append(Problem("this layer class is not converted", where, known, class_name, remedy))
        return False
    return True
