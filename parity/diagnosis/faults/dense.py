"""Dense layers and activations: kernels that stand wrongly, biases and activations lost, relatives exchanged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.diagnosis.case import Case, Change
from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.faults.layers import Nothing, behind, changed, in_turn, layers_of, nodes_of, shapes_in, together
from parity.diagnosis.repair import TRANSPOSED, OptionRepair
from parity.functions import Function
from parity.graph.graph import Wire
from parity.graph.operations import Activation, Softmax
from parity.graph.operations.operation import Plain, Shape, all_of
from parity.network import Dense
from parity.network.activations import ACTIVATIONS
from parity.reference import Rounding

_LINEAR = Function("affine", 1.0, 0.0)
_SIGMOIDS = (Function("sigmoid"), Function("hard_sigmoid", 0.2, 0.5), Function("hard_sigmoid", 1 / 6, 0.5))
_HARD = {
    0.2: "hard_sigmoid as Keras 1 and 2 and ONNX have it (0.2 x + 0.5)",
    1 / 6: "hard_sigmoid as Keras 3 and torch have it (x / 6 + 0.5)",
}
_SLOPES = (0.3, 0.01, 0.2, 0.1)
"""Of LeakyReLU: the layer of Keras, torch and ONNX, the function of Keras, papers."""

_RELATIVES: dict[str, tuple[Function, ...]] = {
    "leaky_relu": (*(Function("leaky_relu", slope) for slope in _SLOPES), Function("relu"), Function("elu", 1.0)),
    "relu": (
        Function("relu6"),
        Function("tanh"),
        Function("sigmoid"),
        Function("gelu"),
        *(Function("leaky_relu", slope) for slope in _SLOPES),
    ),
    "relu6": (Function("relu"),),
    "elu": (*(Function("elu", alpha) for alpha in (1.0, 0.1, 0.2, 0.5)), Function("selu"), Function("relu")),
    "selu": (Function("elu", 1.0), Function("relu")),
    "gelu": (Function("relu"), Function("silu")),
    "silu": (Function("gelu"), Function("hard_silu"), Function("relu")),
    "hard_silu": (Function("silu"),),
    "sigmoid": (*_SIGMOIDS, Function("tanh")),
    "hard_sigmoid": _SIGMOIDS,
    "tanh": (Function("hard_tanh"), Function("sigmoid"), Function("relu")),
    "hard_tanh": (Function("tanh"),),
    "softplus": (Function("relu"),),
    "mish": (Function("silu"),),
}
"""What people take one function for."""


@dataclass(frozen=True, eq=False)
class Curve(Plain):
    """A smooth function element by element that the graphs have no operation for.

    Args:
        name: unique among the operations of a graph.
        formula: of an array.
    """

    formula: Callable[[Array], Array]

    def shapes(self, *shapes: Shape | None) -> tuple[Shape, ...]:
        """Of what it gives: that of what it takes."""
        return tuple(all_of(shapes, 1, self.name))

    def compute(self, *values: Any, rounding: Rounding) -> tuple[Any, ...]:
        """The formula in float64.

        Example:
            >>> from parity.reference import Exact
            >>> Curve("gelu", gelu_by_tanh).compute(np.zeros(1), rounding=Exact())[0].tolist()
            [0.0]
        """
        return (rounding.smooth(self.formula(values[0]), self.name, 6.0),)


def gelu_by_tanh(x: Array) -> Array:
    """GELU as it is approximated; source: Hendrycks & Gimpel 2016, section 2."""
    found: Array = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return found


def gelu_by_sigmoid(x: Array) -> Array:
    """GELU as it is approximated more coarsely; source: Hendrycks & Gimpel 2016, section 2."""
    found: Array = x / (1.0 + np.exp(-1.702 * x))
    return found


_CURVES: dict[str, tuple[tuple[str, Callable[[Array], Array]], ...]] = {
    "gelu": (
        ("gelu approximated by tanh", gelu_by_tanh),
        ("gelu approximated by a sigmoid (x sigmoid(1.702 x))", gelu_by_sigmoid),
    ),
}
"""Relatives that are no functions of the graphs."""


def dense_faults(case: Case) -> Iterator[Fault]:
    """Every mistake of a dense layer or of an activation that could be made in a model.

    Args:
        case: the right model.
    """
    yield from together(case, _of_each(case))


def _of_each(case: Case) -> Iterator[Fault]:
    for name, dense in layers_of(case, Dense):
        yield from _weights(name, dense)
        if dense.activation == "softmax":
            yield from _softmax(case, name)
        elif dense.activation != "linear":
            yield from _activation(name, Function(dense.activation))
    for name, activation in layers_of(case, Activation):
        yield from _activation(name, activation.function)
    for name, _ in layers_of(case, Softmax):
        yield from _softmax(case, name)
    yield from _made(case)


def _weights(name: str, dense: Dense) -> Iterator[Fault]:
    """The kernel transposed or reshaped, the bias lost."""
    rows, columns = dense.held("kernel").shape
    if rows == columns:
        yield _kernel(name, "kernel transposed", "has the transpose of its kernel", lambda k: k.T, TRANSPOSED, 21)
    elif min(rows, columns) > 1:
        for words, formula in (
            ("torch's weight", lambda k: k.reshape(k.shape[::-1]).T),
            ("Keras's kernel", lambda k: k.T.reshape(k.shape)),
        ):
            yield _kernel(
                name,
                "kernel reshaped",
                f"has its kernel reshaped where it is to be transposed, on the way to {words}",
                formula,
                "read again: transposed, not reshaped",
                22,
            )
    if dense.held("bias") is not None:
        yield Fault(
            "bias dropped",
            "has no bias, or one of zeros",
            Place(name),
            changed(name, Dense, lambda one: replace(one, bias=np.zeros(one.output_size, np.float32))),
            (OptionRepair(name, "bias", "loaded"),),
            rank=18,
            shows="needs biases that are not zero",
        )


def _kernel(name: str, kind: str, cause: str, formula: Callable[[Array], Array], value: str, rank: int) -> Fault:
    change = changed(
        name, Dense, lambda one: replace(one, kernel=np.ascontiguousarray(formula(np.asarray(one.kernel))))
    )
    return Fault(kind, cause, Place(name), change, (OptionRepair(name, "kernel", value),), rank)


def function_in_words(function: Function) -> str:
    """A function as people know it.

    Example:
        >>> function_in_words(Function("leaky_relu", 0.3)), function_in_words(Function("relu"))
        ('leaky_relu of slope 0.3', 'relu')
    """
    if function == _LINEAR:
        return "no activation"
    if function.name == "hard_sigmoid" and function.alpha in _HARD:
        return _HARD[function.alpha]
    if function.name == "leaky_relu":
        return f"leaky_relu of slope {function.alpha:.4g}"
    if function.name == "elu":
        return f"elu of alpha {function.alpha:.4g}"
    return str(function)


def _activation(name: str, right: Function) -> Iterator[Fault]:
    """Lost, doubled, exchanged."""
    if right == _LINEAR:
        return
    belongs = function_in_words(right)
    yield _exchanged(name, "activation lost", f"has no activation, where {belongs} belongs", right, _LINEAR, 16)
    if right.name not in ("relu", "relu6", "hard_tanh"):
        yield Fault(
            "activation doubled",
            f"applies {belongs} twice",
            Place(name),
            behind(name, lambda other: Activation(other, right)),
            (OptionRepair(name, "the activation", f"{belongs}, once"),),
            rank=27,
        )
    for wrong in _RELATIVES.get(right.name, ()):
        if wrong != right:
            yield slope_fault(name, right, wrong)
    for words, formula in _CURVES.get(right.name, ()):
        yield Fault(
            "another activation",
            f"has {words}, where {belongs} belongs",
            Place(name),
            _replaced(name, lambda other, formula=formula: Curve(other, formula)),  # type: ignore[misc]
            (OptionRepair(name, "the activation", belongs, words),),
            rank=14,
            shows="needs numbers large enough to tell the functions apart",
        )


def slope_fault(name: str, right: Function, wrong: Function) -> Fault:
    """Another function, or the same with another parameter, in an activation or a dense layer.

    Args:
        name: of the layer.
        right: what belongs there.
        wrong: the suspect's.
    """
    cause = f"has {function_in_words(wrong)}, where {function_in_words(right)} belongs"
    return _exchanged(name, "another activation", cause, right, wrong, 14 if right.name == wrong.name else 17)


def _exchanged(name: str, kind: str, cause: str, right: Function, wrong: Function, rank: int) -> Fault:
    return Fault(
        kind,
        cause,
        Place(name),
        _replaced(name, lambda other: Activation(other, wrong), wrong),
        (OptionRepair(name, "the activation", function_in_words(right), function_in_words(wrong)),),
        rank,
        "needs numbers large enough to tell the functions apart",
    )


def _replaced(name: str, made: Callable[[str], Any], function: Function | None = None) -> Change:
    """Another operation in place of an activation, that of a dense layer among them."""

    def replay(case: Case) -> Case:
        operation = next((one for one in case.graph.operations if one.name == name), None)
        if not isinstance(operation, Dense):
            return changed(name, Activation | Softmax, lambda one: made(one.name))(case)  # type: ignore[arg-type]  # isinstance takes a union
        keras = "linear" if function == _LINEAR else function.keras_name if function is not None else None
        if keras in ACTIVATIONS:
            return changed(name, Dense, lambda one: replace(one, activation=keras))(case)
        return in_turn(changed(name, Dense, lambda one: replace(one, activation="linear")), behind(name, made))(case)

    return replay


def _softmax(case: Case, name: str) -> Iterator[Fault]:
    """Logits for shares, the other way to normalize, another axis, twice."""
    operation = next(one for one in case.graph.operations if one.name == name)
    right = operation if isinstance(operation, Softmax) else Softmax(name)
    shapes = shapes_in(case)
    kind = type(operation)
    rank = next((len(shapes[Wire(node.name)]) for node, one in nodes_of(case, kind) if one is operation), 0)
    belongs = "log_softmax" if right.log else "softmax"
    axis = right.axis % rank if rank else 0
    lost = f"gives logits: it has no activation, where {belongs} belongs"
    yield _other_softmax(name, "activation lost", lost, belongs, Nothing, 13)
    yield _other_softmax(
        name,
        "another activation",
        f"has {'softmax' if right.log else 'log_softmax'}, where {belongs} belongs",
        belongs,
        lambda other: Softmax(other, right.axis, not right.log),
        20,
    )
    sigmoid = "has sigmoid, where softmax belongs"
    yield _other_softmax(
        name, "another activation", sigmoid, belongs, lambda other: Activation(other, Function("sigmoid")), 20
    )
    for other_axis in range(rank):
        if other_axis != axis:
            yield _other_softmax(
                name,
                "softmax axis",
                f"takes {belongs} along axis {other_axis}, where axis {axis} belongs",
                f"{belongs} along axis {axis}",
                partial(_along, axis=other_axis, log=right.log),
                18,
            )
    if not right.log:
        yield Fault(
            "activation doubled",
            "applies softmax twice",
            Place(name),
            behind(name, lambda other: Softmax(other, right.axis)),
            (OptionRepair(name, "the activation", "softmax, once"),),
            rank=19,
        )


def _along(name: str, axis: int, log: bool) -> Softmax:
    return Softmax(name, axis, log)


def _other_softmax(name: str, kind: str, cause: str, belongs: str, made: Callable[[str], Any], rank: int) -> Fault:
    linear = _LINEAR if kind == "activation lost" else None
    repair = (OptionRepair(name, "the activation", belongs),)
    return Fault(kind, cause, Place(name), _replaced(name, made, linear), repair, rank)


def _made(case: Case) -> Iterator[Fault]:
    """An activation at the end where the right model gives logits."""
    outputs = {wire.node for wire in case.graph.outputs.values()}
    for node, dense in nodes_of(case, Dense):
        if node.name not in outputs or dense.activation != "linear":
            continue
        made: tuple[tuple[str, Callable[[str], Any]], ...] = (
            ("softmax", Softmax),
            ("sigmoid", lambda other: Activation(other, Function("sigmoid"))),
            ("log_softmax", lambda other: Softmax(other, log=True)),
            ("tanh", lambda other: Activation(other, Function("tanh"))),
            ("relu", lambda other: Activation(other, Function("relu"))),
        )
        for words, operation in made:
            yield Fault(
                "activation added",
                f"applies {words} to its output, where there is no activation",
                Place(dense.name),
                behind(dense.name, operation),
                (OptionRepair(dense.name, "the activation", "none", words),),
                rank=17,
            )


__all__ = ["Curve", "dense_faults", "function_in_words", "gelu_by_sigmoid", "gelu_by_tanh", "slope_fault"]
