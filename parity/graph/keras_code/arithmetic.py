"""Functions of values: operators where Python has them, else those of `keras.ops`; the user's layers where Keras has such layers."""

from __future__ import annotations

from itertools import pairwise

from parity.graph.code import WIDTH
from parity.graph.graph import Node, Wire
from parity.graph.keras_code.functions import activation_layer
from parity.graph.keras_code.giving import give_call, give_function, give_layer, tensors_of
from parity.graph.keras_code.text import Group, call, text
from parity.graph.keras_code.writing import Made, Value, Writing
from parity.graph.operations import Activation, Cast, Einsum, Elementwise, MatMul, Reduction, Softmax
from parity.graph.operations.operation import normalized

_OPERATORS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}

_MERGES = {
    "add": "Add",
    "multiply": "Multiply",
    "average": "Average",
    "maximum": "Maximum",
    "minimum": "Minimum",
    "subtract": "Subtract",
}
"""The layers of Keras that merge values of one shape."""


def write_elementwise(writing: Writing, node: Node) -> None:
    """Arithmetic, comparisons, logic."""
    operation = node.operation
    assert isinstance(operation, Elementwise)
    values = [writing.value(wire) for wire in node.inputs if wire is not None]
    comment = writing.shape_comment(Wire(node.name))
    if operation.function in _MERGES and _mergeable(writing, node, values):
        made = Made(_MERGES[operation.function], tuple(writing.more(writing.title(node))))
        writing.give(node, writing.layer(node, made, *values, comment=comment))
        return
    target = writing.target(node)
    if operation.function == "average":
        total = _folded(writing, "add", values, target)
        group = call("ops.divide", str(total), str(len(values)))
        writing.give(node, writing.function(target, group, [total], comment, "divide"))
        return
    writing.give(node, _folded(writing, operation.function, values, target, comment))


def _mergeable(writing: Writing, node: Node, values: list[Value]) -> bool:
    """Whether the user has a layer there, and all its inputs are values of one shape."""
    if not node.source or len(values) < 2 or not all(value.calls for value in values):
        return False
    shapes = {writing.axes.get(wire) for wire in node.inputs if wire is not None}
    return len(shapes) == 1 and None not in shapes and len(next(iter(shapes)) or ()) > 1


def _folded(writing: Writing, function: str, values: list[Value], target: str, comment: str = "") -> Value:
    """A function of any number of values, two at a time where Keras takes two."""
    sign = _OPERATORS.get(function)
    symbol = f" {sign} ".join(map(str, values))
    if sign and len(values) > 1 and len(f"    {target} = {symbol}  # {comment}") <= WIDTH and _operable(values, sign):
        last = values[0]
        for value in values[1:]:
            last = Value(target, (writing.noted(function, [last, value]),))
        writing.automatic.add("true_divide" if sign == "/" else function)
        writing.lines.append(f"    {target} = {symbol}" + (f"  # {comment}" if comment else ""))
        return last
    if len(values) < 3 or function == "where":
        return writing.function(target, call(f"ops.{function}", *map(str, values)), values, comment)
    # One statement: the target may be the variable of one of the values.
    inner, group = values[0], call(f"ops.{function}", str(values[0]), str(values[1]))
    for before, value in pairwise(values[1:]):
        inner = Value(str(group), (writing.noted(function, [inner, before]),))
        group = call(f"ops.{function}", group, str(value))
    return writing.function(target, group, [inner, values[-1]], comment)


def _operable(values: list[Value], sign: str) -> bool:
    """Whether Python's operator is that of Keras: one side at least is a value of Keras, from the first step on."""
    return bool(values[0].calls or values[1].calls) and not (sign == "/" and len(values) > 2)


def write_activation(writing: Writing, node: Node) -> None:
    """An activation in a layer of its own."""
    operation = node.operation
    assert isinstance(operation, Activation)
    give_layer(
        writing, node, activation_layer(writing, operation.function, writing.title(node)), *tensors_of(writing, node)
    )


def write_softmax(writing: Writing, node: Node) -> None:
    """`layers.Softmax`, or `ops.log_softmax`."""
    operation = node.operation
    assert isinstance(operation, Softmax)
    wire = node.inputs[0]
    assert wire is not None
    rank = writing.rank(wire)
    last = operation.axis == -1 or (rank is not None and normalized(operation.axis, rank) == rank - 1)
    if last and rank != 1:
        name = "log_softmax" if operation.log else "softmax"
        made = Made("Activation", (text(name), *writing.more(writing.title(node))), masks=True)
        give_layer(writing, node, made, *tensors_of(writing, node))
        return
    if not operation.log and node.source and rank != 1:
        made = Made("Softmax", (f"axis={operation.axis}", *writing.more(writing.title(node))))
        give_layer(writing, node, made, *tensors_of(writing, node))
        return
    value = writing.value(wire, tensor=True)
    group = call("ops.log_softmax" if operation.log else "ops.softmax", str(value), f"axis={operation.axis}")
    give_function(writing, node, group, value)


def write_cast(writing: Writing, node: Node) -> None:
    """`ops.cast`."""
    operation = node.operation
    assert isinstance(operation, Cast)
    dtype = {"float32": writing.dtype, "int64": "int32", "bool": "bool"}[operation.dtype]
    give_call(writing, node, "ops.cast", text(dtype))


def write_matmul(writing: Writing, node: Node) -> None:
    """`ops.matmul`."""
    assert isinstance(node.operation, MatMul)
    give_call(writing, node, "ops.matmul")


def write_einsum(writing: Writing, node: Node) -> None:
    """`ops.einsum`."""
    operation = node.operation
    assert isinstance(operation, Einsum)
    values = tensors_of(writing, node)
    group = call("ops.einsum", text(operation.equation), *map(str, values))
    give_function(writing, node, group, *values)


def write_reduction(writing: Writing, node: Node) -> None:
    """`ops.sum` and its kin; `layers.GlobalMaxPooling1D` and its kin where the user has such a layer."""
    operation = node.operation
    assert isinstance(operation, Reduction)
    (wire,) = node.inputs
    assert wire is not None
    rank = writing.rank(wire)
    places = () if rank is None else tuple(sorted(normalized(axis, rank) for axis in operation.axes))
    whole = rank is not None and rank in (3, 4, 5) and places == tuple(range(1, rank - 1))
    names = {"mean": "Average", "max": "Max"}
    if whole and node.source and operation.function in names:
        assert rank is not None
        keeps = ("keepdims=True",) if operation.keepdims else ()
        made = Made(
            f"Global{names[operation.function]}Pooling{rank - 2}D", (*keeps, *writing.more(writing.title(node)))
        )
        give_layer(writing, node, made, *tensors_of(writing, node))
        return
    axis = str(operation.axes[0]) if len(operation.axes) == 1 else str(tuple(operation.axes))
    options = [f"axis={axis}", *(["keepdims=True"] if operation.keepdims else [])]
    if operation.function != "norm":
        give_call(writing, node, f"ops.{operation.function}", *options)
        return
    value = writing.value(wire, tensor=True)
    squares = Value(f"ops.square({value})", (writing.noted("square", [value]),))
    target = writing.target(node)
    total = Value(str(call("ops.sum", str(squares), *options)), (writing.noted("sum", [squares]),))
    group = Group("ops.sqrt(", (call("ops.sum", str(squares), *options),))
    writing.give(node, writing.function(target, group, [total], writing.shape_comment(Wire(node.name))))


__all__ = [
    "write_activation",
    "write_cast",
    "write_einsum",
    "write_elementwise",
    "write_matmul",
    "write_reduction",
    "write_softmax",
]
