"""A whole module: docstring, imports, what `build()` needs beside Keras, `build()` and `load()`."""

from __future__ import annotations

import re
from importlib.resources import files

from parity.graph.code import first_lines, prose
from parity.graph.graph import Graph, GraphInput, Wire
from parity.graph.keras_code.text import Group, call, statement, text, texts
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.reading_notes import LimitedAxis, frozen_lengths, limited_axes

_LOAD = '''\
def load(path: str | Path | None = None) -> keras.Model:
    """The model with its weights, from model.weights.h5 beside this file by default."""
    model = build()
    model.load_weights(path or WEIGHTS)
    return model
'''


def module(writing: Writing, body: list[str], outputs: list[Value]) -> str:
    """The source of the module.

    Args:
        writing: with the snippets and definitions that the body needs.
        body: of `build()`, up to its return.
        outputs: of the model, in order.
    """
    parts = [snippet(name) for name in writing.snippets]
    parts += ["\n".join(lines) + "\n" for lines in writing.definitions.values()]
    parts += [_build(writing, body, outputs), _LOAD]
    code = "\n\n".join(parts)
    return f"{_docstring(writing)}\n{_imports(code)}\n\n{code}"


def snippet(name: str) -> str:
    """A class for a module, from the file of that name.

    Example:
        >>> snippet("parameter").splitlines()[1].startswith("class Parameter")
        True
    """
    source = (files("parity.graph.keras_code.snippets") / f"{name}.py").read_text("utf-8")
    start = source.index("\n@")
    return re.sub(r"  # (type: ignore|noqa).*", "", source[start + 1 :])


def _imports(code: str) -> str:
    """The imports that the code needs, and the place of the weights."""
    used = [name for name in ("layers", "ops") if re.search(rf"(?<![\w.]){name}\.", code)]
    lines = [
        *(["from collections.abc import Callable"] if "Callable[" in code else []),
        "from pathlib import Path",
        *(["from typing import Any"] if re.search(r"\bAny\b", code) else []),
        "",
        "import keras",
        *([f"from keras import {', '.join(used)}"] if used else []),
        "",
        'WEIGHTS = Path(__file__).with_name("model.weights.h5")',
        "",
    ]
    return "\n".join(lines)


def _docstring(writing: Writing) -> str:
    graph = writing.graph
    lines = [*first_lines(graph, " in Keras 3"), "", "Inputs:"]
    lines += [f"    {prose(one.name, 40)}: {_described(writing, one)}" for one in graph.inputs]
    lines += ["", "Outputs:"]
    for name, wire in graph.outputs.items():
        shape = writing.shape_in_words(wire)
        lines.append(f"    {prose(name, 60)}: {shape}" if shape else f"    {prose(name, 60)}")
    lines += ["", "The weights are in model.weights.h5 beside this file; load() reads them."]
    checked = [f"    {prose(one.input, 40)}: axis {one.axis} is {one.words}" for one in limited_axes(graph)]
    lines += ["", "Lengths:", *checked] if checked else []
    odd = odd_batches(graph, writing)
    if odd:
        lines += [f"{odd}", "Call the model with whole batches: predict() splits and joins them along axis 0."]
    if graph.stubs:
        known = all(stub.stated_of(index) for stub in graph.stubs for index in range(stub.outputs))
        lines += [f"{'Calling the model' if known else 'build()'} raises until these classes are filled in:"]
        lines += [f"    {name}" for name in writing.stub_classes.values()]
    return "\n".join([*lines, '"""', ""])


def odd_batches(graph: Graph, writing: Writing) -> str:
    """Which inputs and outputs have not the batch on axis 0, in words; "" if all have."""
    given = {one.name: one.shape[:1] for one in graph.inputs}
    taken = {name: (writing.axes.get(wire) or ("batch",))[:1] for name, wire in graph.outputs.items()}
    names = [prose(name, 40) for name, first in {**given, **taken}.items() if first != ("batch",)]
    return f"Axis 0 is not the batch in {', '.join(names)}." if names and "batch" in graph.words else ""


def _described(writing: Writing, given: GraphInput) -> str:
    shape = writing.shape_in_words(Wire(given.name))
    kinds = {"int64": "integers", "bool": "truth values"}
    if given.dtype not in kinds:
        return shape
    below = f" below {given.below}" if given.below else ""
    return f"{shape}, {kinds[given.dtype]}{below}"


def inputs_of(writing: Writing) -> list[str]:
    """The statements that make the model's inputs."""
    lines: list[str] = []
    for one in writing.graph.inputs:
        lengths = [None if isinstance(length, str) else length for length in one.shape]
        kind = {"int64": "int32", "bool": "bool", "float64": "float64"}.get(one.dtype, writing.dtype)
        batch = lengths[:1] == [None]
        shape = str(tuple(lengths[1:])) if batch else f"batch_shape={tuple(lengths)}"
        title = writing.unique(one.name)
        dtype = [] if kind == "float32" else [f"dtype={text(kind)}"]
        target = writing.input_variable(one.name)
        lines += statement(target, call("keras.Input", shape, *dtype, f"name={text(title)}"))
        writing.values[Wire(one.name)] = Value(target, (writing.calls.input(),))
    return lines


def add_checks(writing: Writing) -> None:
    """Add the layers that check the lengths for which the model holds; all that follows takes what they hand on.

    Keras itself does not check the length of axis 0, nor fixed ones in `predict` where TensorFlow has traced the model for any length.
    """
    frozen = [LimitedAxis(name, axis, n, n, n) for name, axis, n in frozen_lengths(writing.graph)]
    for one in (*frozen, *limited_axes(writing.graph)):
        writing.snippets["limits"] = None
        value = writing.values[Wire(one.input)]
        word = one.word if isinstance(one.word, str) else f"axis_{one.axis}_is"
        name = writing.unique(f"{one.input}_{word}_{one.words.replace(' ', '_')}")
        options = [] if one.axis == 1 else [f"axis={one.axis}"]
        options += [] if one.least is None else [f"least={one.least}"]
        options += [] if one.most is None else [f"most={one.most}"]
        made = Made("LimitedLength", (*options, *writing.more(name)), own=True)
        target = writing.variable(f"{writing.input_variable(one.input)}_checked")
        number = writing.apply(made, object(), target, [str(value)], value.calls)
        writing.values[Wire(one.input)] = Value(target, (number,))


def _build(writing: Writing, body: list[str], outputs: list[Value]) -> str:
    names = [writing.input_variable(one.name) for one in writing.graph.inputs]
    given: str | Group = names[0] if len(names) == 1 else texts(names)
    taken: str | Group = str(outputs[0]) if len(outputs) == 1 else texts([str(value) for value in outputs])
    name = re.sub(r"[^A-Za-z0-9_\-]+", "_", writing.graph.name).strip("_") or "model"
    model = call("keras.Model", given, taken, f"name={text(name)}")
    head = 'def build() -> keras.Model:\n    """The model, its weights not loaded."""\n'
    returned = statement("", Group(f"return {model.start}", model.items))
    return head + "\n".join([*body, *returned]) + "\n"


__all__ = ["add_checks", "inputs_of", "module", "odd_batches", "snippet"]
