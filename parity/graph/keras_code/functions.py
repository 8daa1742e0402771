"""Activations: by name where Keras has exactly that function, as a layer with a parameter, or as a function of the module."""

from __future__ import annotations

from parity.functions import FUNCTIONS, Function
from parity.graph.code import wrapped
from parity.graph.keras_code.text import number, text
from parity.graph.keras_code.writing import Made, Writing
from parity.network.keras.options import OWN_PACKAGE
from parity.network.keras.written import registered_function

_FORMULAS: dict[str, tuple[str, str]] = {
    "affine": ("{a} * x + {b}", "{a} x + {b}."),
    "hard_sigmoid": ("ops.clip({a} * x + {b}, 0.0, 1.0)", "{a} x + {b}, cut to 0 and 1."),
    "leaky_relu": ("ops.leaky_relu(x, {a})", "x where it is positive, else {a} x."),
    "thresholded_relu": ("ops.where(x > {a}, x, ops.zeros_like(x))", "x where it is above {a}, else 0."),
    "scaled_tanh": ("{a} * ops.tanh({b} * x)", "{a} tanh({b} x)."),
    "elu": ("ops.elu(x, {a})", "x where it is positive, else {a} (exp(x) - 1)."),
}
"""Functions with parameters that Keras has not under a name: in code and in words."""

_OF_KERAS = {row.keras for row in FUNCTIONS.values()}

_LAYERS = {"leaky_relu": ("LeakyReLU", "negative_slope"), "elu": ("ELU", "alpha")}
"""Layers of Keras that have a parameter."""


def activation_argument(writing: Writing, function: Function) -> str:
    """An activation as an option of a layer: its name, or a function that the module then has."""
    if function.keras_name is not None:
        return text(function.keras_name)
    return own_function(writing, function)


def own_function(writing: Writing, function: Function) -> str:
    """The name of a function of the module that computes it."""
    formula, words = _FORMULAS[function.name]
    row = FUNCTIONS[function.name]
    given = {"a": _shown(function.alpha if row.alpha is not None else None), "b": _shown(function.beta)}
    body = [
        f'    """{words.format(**given)}"""',
        f"    return {formula.format(**given)}",
    ]
    for name, lines in writing.definitions.items():
        if lines[-2:] == body:
            return name
    # Keras before 3.7 saves a function that is called like one of its own as that.
    name = writing.variable(f"own_{function.name}" if function.name in _OF_KERAS else function.name)
    registered = [f"package={text(OWN_PACKAGE)}", f"name={text(registered_function(function))}"]
    head = wrapped("@keras.saving.register_keras_serializable(", registered, ")")
    writing.definitions[name] = [*head, f"def {name}(x: keras.KerasTensor) -> keras.KerasTensor:", *body]
    return name


def activation_layer(writing: Writing, function: Function, name: str) -> Made:
    """A layer that applies a function."""
    more = writing.more(name)
    if function.keras_name is None and function.name in _LAYERS:
        class_name, option = _LAYERS[function.name]
        return Made(class_name, (f"{option}={_shown(function.alpha)}", *more))
    return Made("Activation", (activation_argument(writing, function), *more), masks=True)


def _shown(value: float | None) -> str:
    return number(float(value)) if value is not None else ""


__all__ = ["activation_argument", "activation_layer", "own_function"]
