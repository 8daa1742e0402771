"""Layers that are not converted: a class of the module that raises until the user fills it in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from parity.deferred import Blocks, blocks_of
from parity.graph.code import prose
from parity.graph.graph import Node
from parity.graph.keras_code.text import Group, call, statement, text
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import Stated, Stub


def write_stub(writing: Writing, node: Node) -> None:
    """A call of the stub's class."""
    stub = node.operation
    assert isinstance(stub, Stub)
    name = writing.stub_class(stub)
    if name not in writing.definitions:
        writing.definitions[name] = _definition(name, stub)
    values = [writing.value(wire, tensor=True) for wire in node.inputs if wire is not None]
    made = Made(name, tuple(writing.more(writing.title(node))), _weights(stub), own=True)
    target = writing.target(node)
    several = [target, *(writing.variable(f"{writing.identifier(node)}_{i}") for i in range(1, stub.outputs))]
    arguments = [str(writing.without_mask(value)) for value in values]
    calls = [one for value in values for one in value.calls]
    called = writing.apply(made, (id(stub), ""), ", ".join(several), arguments, calls)
    writing.give(node, *(Value(one, (called,)) for one in several))


def _floats(stub: Stub) -> dict[str, Any]:
    return {name: held for name, held in stub.arrays.held.items() if held.dtype.kind == "f"}


def _weights(stub: Stub) -> dict[str, list[Blocks]]:
    held = [blocks_of(array) for array in _floats(stub).values()]
    return {"vars": held} if held else {}


def _definition(name: str, stub: Stub) -> list[str]:
    """The class, with what is known of the layer in comments."""
    lines = [
        "@keras.saving.register_keras_serializable(package=__name__)",
        f"class {name}(layers.Layer):",
        f'    """To be filled in: the layer \'{prose(stub.name, 40)}\' of class {prose(stub.class_name, 40)}."""',
        "",
    ]
    if stub.options:
        lines += ["    # Its options in the source:"]
        lines += [f"    #     {prose(key, 40)} = {prose(repr(value), 60)}" for key, value in stub.options.items()]
        lines.append("")
    weights = _floats(stub)
    if weights:
        lines += [
            "    def __init__(self, **kwargs):",
            "        super().__init__(**kwargs)",
            "        self.source_weights = [",
        ]
        for key, held in weights.items():
            shape = tuple(int(length) for length in held.shape)
            group = call("self.add_weight", f"shape={shape}", f"name={text(_weight_name(key))}")
            lines += [one if one.endswith(",") else f"{one}," for one in _item(group)]
        lines += ["        ]", ""]
    given = "a tuple of values" if stub.outputs > 1 else "a value"
    stated = [one for index in range(stub.outputs) if (one := stub.stated_of(index)) is not None]
    known = len(stated) == stub.outputs
    if known:
        lines += [*_output_spec(stated), ""]
    message = f"fill in: what {prose(stub.class_name, 40)} computes"
    if not known:
        message += "; the source does not state its shape, so the model cannot be built before"
    lines += [
        "    def call(self, *inputs):",
        f"        # Takes its inputs one by one and returns {given}.",
        *(["        # The last input is the mask, True where a step is valid."] if stub.masked else []),
        *statement(
            "",
            Group("raise NotImplementedError(", (text(message),)),
            indent=8,
        ),
    ]
    return lines


def _output_spec(stated: Sequence[Stated]) -> list[str]:
    """What the source states of the layer's values: so the model is built, and shown by `summary()`, before the layer is filled in."""
    specs = [call("keras.KerasTensor", str(one.shape), text(one.dtype)) for one in stated]
    lines = ["    def compute_output_spec(self, *inputs):", "        # As the source states it."]
    if len(specs) == 1:
        return [*lines, f"        return {specs[0]}"]
    return [*lines, "        return (", *(f"            {one}," for one in specs), "        )"]


def _weight_name(name: str) -> str:
    """A name that Keras allows."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name)[:40].strip("_") or "weight"


def _item(group: Group) -> list[str]:
    flat = f"            {group},"
    return [flat] if len(flat) <= 88 else group.over_lines(12, after=",")


__all__ = ["write_stub"]
